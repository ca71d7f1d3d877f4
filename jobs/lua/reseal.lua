-- Put texts that were sealed anew in their places, each if its place still has what was read.
-- parts: of each text: what it belongs to (as in PLACES), whose that is, its field or index (0, 1 …), the
--   text as it was, and as it becomes
-- Reply: how many were put there
-- Twice: the second time none is.
local A = arguments('parts:rest')
local PLACES = {job = K.job, unreadable = K.unreadable, rows = K.rows, cells = K.cells,
  vault = function() return K.vault end, quarantine = function() return K.quarantine end, note = K.job,
  action = function() return K.actions end, decision = K.decision, halt = function() return K.account end,
  ledger = function() return K.ledger end}
local put = 0
for i = 1, #A.parts, 5 do
  local what, id, place, was, text = unpack(A.parts, i, i + 4)
  local key = PLACES[what](id)
  local kind = redis.call('TYPE', key).ok
  if kind == 'hash' and redis.call('HGET', key, place) == was then
    redis.call('HSET', key, place, text)
    put = put + 1
  elseif kind == 'list' and redis.call('LINDEX', key, place) == was then
    redis.call('LSET', key, place, text)
    put = put + 1
  end
end
return put
