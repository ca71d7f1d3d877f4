-- Find jobs, among those named, by their number, or list the names by which others know them. A job that
-- a person put in another's place is looked at with that. It changes nothing.
-- indexes: what may stand for a number, each between commas; or "" for names, which the caller compares:
--   what is searched for may be a number, and Redis' slowlog keeps arguments
-- Reply: the ids of those that fit; or for each job its id, RequestId, reference, key, and its story's
--   entries, each in a line
local A = arguments('indexes', 'ids:rest')
local reply = {}

local function story_of(id, count)
  local entries = {}
  for back = 0, math.min(100, count - 1) do -- so it ends whatever a damaged record holds
    entries[#entries + 1] = redis.call('HGET', K.job(id), 'story:' .. int(count - back)) or nil
  end
  return table.concat(entries, '\n')
end

for _, id in ipairs(A.ids) do
  for _ = 1, 100 do
    if not id then break end
    local values = redis.pcall('HMGET', K.job(id), 'cc', 'num', 'request_id', 'reference', 'key', 'told',
      'replaced_by')
    if values.err then break end
    local cc, num, request_id, reference, key, count, replaced_by = unpack(values)
    if A.indexes == '' then
      for _, each in ipairs({id, request_id or '', reference or '', key or '', story_of(id, tonumber(count) or 0)}) do
        reply[#reply + 1] = each
      end
    elseif cc and num and string.find(A.indexes, ',' .. number_digest(cc, num) .. ',', 1, true) then
      reply[#reply + 1] = id
    end
    id = replaced_by
  end
end
return reply
