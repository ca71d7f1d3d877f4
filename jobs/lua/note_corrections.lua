-- Note at failed jobs, and for rejected rows at their batch, which rows of a corrected file stand for
-- their customers from now on. The rows need not be there yet: whoever tries a failed job again
-- meanwhile must know already.
-- pairs: for each row the id of the job that it corrects, and the id that its own job will have
-- Twice: noted once.
local A = arguments('pairs:rest')

local function note(key, field, new)
  local was = redis.call('HGET', key, field) or ''
  if not string.find(',' .. was .. ',', ',' .. new .. ',', 1, true) then
    redis.call('HSET', key, field, was == '' and new or was .. ',' .. new)
  end
end

for i = 1, #A.pairs, 2 do
  local id, new = A.pairs[i], A.pairs[i + 1]
  local values = redis.pcall('HMGET', K.job(id), 'state')
  local batch, row = string.match(id, '^(.+)%-(%d+)$')
  if values[1] and id ~= new then
    note(K.job(id), 'corrected', new)
  elseif batch and not values.err and string.byte(redis.call('LINDEX', K.rows(batch), row - 1) or '') == 9 then
    note(K.corrected(batch), row, new)
    local left = redis.call('PTTL', K.batch(batch))
    if left > 0 then redis.call('PEXPIRE', K.corrected(batch), left) end
  end
end
return 1
