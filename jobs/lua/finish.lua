-- Record how a job ended: state, counters, result and dead letter in one step. Only for the holder
-- of its lease, also after the lease ran out, as long as nobody else took the job. But that a code
-- was sent is a fact, whoever learned it and when: it ends the job for every holder.
-- ARGV: id, token, state, code, message, request_id, number ("closed" | "open" | "keep"),
--   interval_ms, retention_ms, story, arrived (see note_arrival)
-- Reply: {"ok"} | {"lost"}
-- Twice with one token: ok again.
local id, token, state = ARGV[1], ARGV[2], ARGV[3]
local is_sent = state == 'sent' or state == 'sent_inferred'
local j = redis.call('HMGET', K.job(id), 'lease', 'state', 'cc', 'num', 'lane', 'batch', 'by',
  'kind')
if j[1] ~= token then
  if j[7] == token then return {'ok'} end
  if not j[2] or FINAL[j[2]] or not is_sent then return {'lost'} end
end
local now = now_ms()
tell_story(id, ARGV[10])
note_arrival(ARGV[11])
redis.call('HSET', K.job(id), 'code', ARGV[4], 'message', ARGV[5], 'request_id', ARGV[6],
  'by', token)
if state ~= 'unknown' then redis.call('HDEL', K.job(id), 'doubt', 'asked') end
-- the late try was refused, so it doubled nothing: one of those before it was accepted
if state == 'sent_inferred' and j[1] == token and j[8] == 'late' then unflag_duplicate(id) end
if ARGV[7] == 'closed' then
  close_number(j[3], j[4], id, now, now + tonumber(ARGV[8]))
elseif ARGV[7] == 'open' then
  open_number(j[3], j[4], id)
end
if is_sent then
  note_code_sent(j[3], j[4], now, tonumber(ARGV[9]))
end
finalize(id, j[6], j[5], j[2], state, tonumber(ARGV[9]), now, ARGV[4])
return {'ok'}
