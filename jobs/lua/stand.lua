-- Find out whether a worker may take work. Each asks every second.
-- cut_off: JSON, what keeps it from reaching the API while others do; "" if nothing does, any more
-- Reply: {"working"} | {"stood down" | "halted now" | "halted" (none is left to go on), what is refused
--   of it, JSON}
local A = arguments('entry', 'cut_off')
local entry = A.entry
local mark = 'worker:' .. entry
local known = redis.call('HGET', K.refused, mark)
if A.cut_off ~= '' and not known then
  local found = cjson.decode(A.cut_off)
  found.since, found.cut_off = NOW, true
  redis.call('HSET', K.refused, mark, cjson.encode(found))
elseif known and A.cut_off == '' and cjson.decode(known).cut_off then
  redis.call('HDEL', K.refused, mark)
end
local why = refusal_of(entry)
if why then return {stand_down(entry), why} end
if not can_send(entry) then return {'working'} end
-- One is here that holds something else: what halted the others is not known to concern it.
local account = fields(K.account, 'state', 'by', 'refused')
if account.state == 'halted' and account.by == 'api' and account.refused then
  end_halt()
end
return {'working'}
