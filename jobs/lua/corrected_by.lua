-- Which job of a corrected file stands for the customer of each failed job, or of each row that was
-- rejected. It changes nothing.
-- ids: of the failed jobs, or those that the rows' jobs would have
-- Reply: for each the id of that job, or ""
local A = arguments('ids:rest')
local reply = {}
for i, id in ipairs(A.ids) do
  local values = redis.pcall('HMGET', K.job(id), 'state', 'corrected')
  local batch, row = string.match(id, '^(.+)%-(%d+)$')
  if values[1] or not batch then
    reply[i] = corrected_by(values[2])
  else
    reply[i] = corrected_by(redis.call('HGET', K.corrected(batch), row))
  end
end
return reply
