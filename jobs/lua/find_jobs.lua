-- Find jobs, among those named, by their number, or by a name: a RequestId of one of their calls, the
-- caller's reference or key. A job that a person put in another's place is looked at with that. It
-- changes nothing.
-- indexes: what may stand for a number, each between commas, or ""; name: or ""
-- Reply: the ids of those that fit
local A = arguments('indexes', 'name', 'ids:rest')
local reply = {}

local function is_told_of(id, told)
  for back = 0, math.min(100, told - 1) do -- so it ends whatever a damaged record holds
    local entry = redis.call('HGET', K.job(id), 'story:' .. int(told - back))
    if entry and string.find(entry, '"' .. A.name .. '"', 1, true) then return true end
  end
  return false
end

for _, id in ipairs(A.ids) do
  for _ = 1, 100 do
    if not id then break end
    local values = redis.pcall('HMGET', K.job(id), 'cc', 'num', 'request_id', 'reference', 'key', 'told',
      'replaced_by')
    if values.err then break end
    local cc, num, request_id, reference, key, told, replaced_by = unpack(values)
    local fits
    if A.indexes ~= '' then
      fits = cc and num and string.find(A.indexes, ',' .. number_digest(cc, num) .. ',', 1, true)
    else
      fits = request_id == A.name or reference == A.name or key == A.name
        or is_told_of(id, tonumber(told) or 0)
    end
    if fits then reply[#reply + 1] = id end
    id = replaced_by
  end
end
return reply
