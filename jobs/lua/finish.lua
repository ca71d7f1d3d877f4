-- Record how a job ended: state, counters, result and dead letter in one step. Only for the holder
-- of its lease, also after the lease ran out, as long as nobody else took the job.
-- ARGV: id, token, state, code, message, request_id, number ("closed" | "open" | "keep"),
--   interval_ms, retention_ms, story, arrived (see note_arrival)
-- Reply: {"ok"} | {"lost"}
-- Twice with one token: ok again.
local id, token, state = ARGV[1], ARGV[2], ARGV[3]
local j = redis.call('HMGET', K.job(id), 'lease', 'state', 'cc', 'num', 'lane', 'batch', 'by')
if j[1] ~= token then
  if j[7] == token then return {'ok'} end
  return {'lost'}
end
local now = now_ms()
tell_story(id, ARGV[10])
note_arrival(ARGV[11])
redis.call('HSET', K.job(id), 'code', ARGV[4], 'message', ARGV[5], 'request_id', ARGV[6],
  'by', token)
if state ~= 'unknown' then redis.call('HDEL', K.job(id), 'doubt') end
if ARGV[7] == 'closed' then
  close_number(j[3], j[4], id, now, now + tonumber(ARGV[8]))
elseif ARGV[7] == 'open' then
  open_number(j[3], j[4], id)
end
if state == 'sent' or state == 'sent_inferred' then
  note_code_sent(j[3], j[4], now, tonumber(ARGV[9]))
end
finalize(id, j[6], j[5], j[2], state, tonumber(ARGV[9]), now, ARGV[4])
return {'ok'}
