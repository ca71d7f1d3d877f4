-- Lay a job aside until a time. Only for the holder of its lease.
-- ARGV: id, token, wait_ms, last (see begin), code, message,
--   number ("closed": refused for its interval, closed until then; "open": as the doubt says),
--   story, arrived (see note_arrival), waits (1: count this as one of the long waits)
-- Reply: {"ok"} | {"lost"}
-- Twice with one token: ok again.
local id, token, wait_ms, last = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]
note_arrival(ARGV[9]) -- whoever has the job by now
local job = fields(K.job(id), 'lease', 'state', 'cc', 'num', 'lane', 'batch', 'doubt', 'by')
if job.lease ~= token then
  if job.by == token then return {'ok'} end
  return {'lost'}
end
local now = now_ms()
tell_story(id, ARGV[8])
if last ~= '' then redis.call('HDEL', K.job(id), 'open') end
if string.find(last, 'unspend') then redis.call('HINCRBY', K.job(id), 'attempts', -1) end
local doubt = job.doubt
if string.find(last, 'clear') then doubt = clear_doubt(id) end
redis.call('HSET', K.job(id), 'by', token, 'code', ARGV[5], 'message', ARGV[6])
if ARGV[10] == '1' then redis.call('HINCRBY', K.job(id), 'waits', 1) end
if ARGV[7] == 'closed' then
  close_number(job.cc, job.num, id, now, now + wait_ms)
  redis.call('HSET', K.job(id), 'early', 1) -- begin.lua says why
elseif not doubt then
  open_number(job.cc, job.num, id)
end
park(id, job.batch, job.lane, job.state, now + wait_ms, doubt)
return {'ok'}
