-- Append rows to a batch, at its end.
-- first: index of the first row (0, 1 …); is_last: "1" if the file ends with these
-- was: the block in which the first row lies, as it is now; "" if it begins one
-- parts: so many `blocks`, the first of which takes that one's place; then the rows' heads (jobs/rows.py)
-- Reply: rows that the batch now has, -1 if the rows leave a gap or the batch is gone, -2 if it was
--   cancelled, or -3 if it has not the rows or the block for which these were prepared
-- Twice: -3, and nothing is appended.
local A = arguments('batch', 'first:number', 'was', 'blocks:number', 'is_last', 'parts:rest')
local batch, first = A.batch, A.first
local state = redis.call('HGET', K.batch(batch), 'state')
if state == BATCH.CANCELLED then return -2 end
local have = redis.call('LLEN', K.rows(batch))
if not state or first > have then return -1 end
local block = math.floor(first / BLOCK_ROWS)
local is_begun = first % BLOCK_ROWS > 0 and A.blocks > 0
if first < have or is_begun and (redis.call('LINDEX', K.cells(batch), block) or '') ~= A.was then
  return -3
end
local rejected, fresh = 0, {}
for i = A.blocks + 1, #A.parts do
  fresh[#fresh + 1] = A.parts[i]
  if string.byte(A.parts[i]) == 9 then rejected = rejected + 1 end
end
if #fresh > 0 then
  local cells = K.cells(batch)
  for _ = redis.call('LLEN', cells) + 1, block + A.blocks do redis.call('RPUSH', cells, '') end
  for i = 1, A.blocks do redis.call('LSET', cells, block + i - 1, A.parts[i]) end
  redis.call('HSET', K.batch(batch), 'blocks', redis.call('LLEN', cells))
  redis.call('RPUSH', K.rows(batch), unpack(fresh))
  redis.call('HINCRBY', K.batch(batch), 'accepted', #fresh - rejected)
  redis.call('HINCRBY', K.batch(batch), 'rejected', rejected)
end
redis.call('HINCRBY', K.batch(batch), 'total', #fresh) -- also by 0: WAIT waits for what its own connection wrote
if A.is_last == '1' then
  redis.call('HSET', K.batch(batch), 'imported', 1)
  redis.call('HDEL', K.batch(batch), 'rows_lost')
end
return have + #fresh
