-- Remove the history of a number, and note that a person was forgotten.
-- action: JSON, without the number
-- Reply: {1}; {0}: the number is closed yet, or a job has it, so its history stays
-- Twice: the action is noted once.
local A = arguments('cc', 'num', 'action')
local key = number_key(A.cc, A.num)
local used = fields(key, 'until')
if (tonumber(used['until']) or 0) > NOW then return {0} end
redis.call('DEL', key, K.asked(number_digest(A.cc, A.num)))
-- so that the append-only file is soon rewritten without it
redis.call('HSET', K.sweeps, 'rewritten', 0)
if not is_noted(A.action) then note_action(A.action) end
return {1}
