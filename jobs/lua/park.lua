-- Lay a job aside until a time. Only for the holder of its lease.
-- ARGV: id, token, wait_ms, last (see begin), code, message,
--   number ("closed": refused for its interval, closed until then; "open": as the doubt says),
--   story, arrived (see note_arrival), waits (1: count this as one of the long waits)
-- Reply: {"ok"} | {"lost"}
-- Twice with one token: ok again.
local id, token, wait_ms, last = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]
note_arrival(ARGV[9]) -- whoever has the job by now
local j = redis.call('HMGET', K.job(id), 'lease', 'state', 'cc', 'num', 'lane', 'batch', 'doubt',
  'by')
if j[1] ~= token then
  if j[8] == token then return {'ok'} end
  return {'lost'}
end
local now = now_ms()
tell_story(id, ARGV[8])
if last ~= '' then redis.call('HDEL', K.job(id), 'open') end
if string.find(last, 'unspend') then redis.call('HINCRBY', K.job(id), 'attempts', -1) end
local doubt = j[7]
if string.find(last, 'clear') then doubt = clear_doubt(id) end
redis.call('HSET', K.job(id), 'by', token, 'code', ARGV[5], 'message', ARGV[6])
if ARGV[10] == '1' then redis.call('HINCRBY', K.job(id), 'waits', 1) end
if ARGV[7] == 'closed' then
  close_number(j[3], j[4], id, now, now + wait_ms)
elseif not doubt then
  open_number(j[3], j[4], id)
end
park(id, j[6], j[5], j[2], now + wait_ms, doubt)
return {'ok'}
