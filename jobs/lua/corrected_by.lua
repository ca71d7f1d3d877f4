-- Which job of a corrected file stands for the customer of each failed job. It changes nothing.
-- ids: of the failed jobs
-- Reply: for each the id of that job, or ""
local A = arguments('ids:rest')
local reply = {}
for i, id in ipairs(A.ids) do
  local values = redis.pcall('HMGET', K.job(id), 'corrected')
  reply[i] = corrected_by(values[1])
end
return reply
