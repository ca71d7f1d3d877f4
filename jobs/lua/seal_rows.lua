-- Put sealed rows in the place of those of one block that an older release wrote, if all are as they were.
-- first: index of its first row; was, cells: the block as it is ("": there is none), and as it becomes
-- heads: of its rows, as they are, then as they become
-- Reply: 1, or 0 if something was changed meanwhile; 1 as well if the batch is gone
-- Twice: 0 or 1, and nothing is changed.
local A = arguments('batch', 'first:number', 'was', 'cells', 'heads:rest')
if redis.call('EXISTS', K.batch(A.batch)) == 0 then return 1 end
local rows, cells, block = K.rows(A.batch), K.cells(A.batch), A.first / BLOCK_ROWS
local count = #A.heads / 2
local heads = redis.call('LRANGE', rows, A.first, A.first + count - 1)
for i = 1, count do
  if heads[i] ~= A.heads[i] then return 0 end
end
if (redis.call('LINDEX', cells, block) or '') ~= A.was then return 0 end
for _ = redis.call('LLEN', cells) + 1, block + 1 do redis.call('RPUSH', cells, '') end
redis.call('LSET', cells, block, A.cells)
redis.call('HSET', K.batch(A.batch), 'blocks', redis.call('LLEN', cells))
local ttl = redis.call('PTTL', K.batch(A.batch))
if ttl > 0 then redis.call('PEXPIRE', cells, ttl) end
for i = 1, count do
  if A.heads[count + i] ~= heads[i] then redis.call('LSET', rows, A.first + i - 1, A.heads[count + i]) end
end
return 1
