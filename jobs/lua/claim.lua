-- Take a job to work on it, if it is due: one round trip decides about duplicate messages, paused
-- or cancelled batches, a halted account, an expired job and a number in its interval.
-- token: unique per claim
-- known: what the caller remembers of the ledger (see identity.lua)
-- Reply: {"granted", hash of the job as JSON} ({…, "canary"} if it finds out whether the halt is over)
--   | {"final", hash} | {"absent"} | {"unreadable"} | {"busy"}
--   | {"plain", hash}: an older release left its number in the clear: seal it (adopt.lua), and claim it again
--   | {"parked", ms until it is due} | {"paused"} | {"halted"}
--   | {"refused"} (it is another ledger, or has forgotten attempts of the caller)
-- Twice with one token: granted again.
local A = arguments('id', 'token', 'known')
local id, token = A.id, A.token
if refused(A.known) or attempts_known(A.known) then return {'refused'} end
local job = fields(K.job(id), 'state', 'cc', 'num', 'lane', 'batch', 'lease', 'doubt', 'not_after',
  'published', 'urgent', 'replaces', 'created')
local state, cc, num, lane, batch = job.state, job.cc, job.num, job.lane, job.batch
if FINAL[state] then return {'final', record(id)} end
if not OPEN[state] or (lane ~= 'event' and lane ~= 'batch') then
  return {(state or redis.call('EXISTS', K.job(id)) == 1) and 'unreadable' or 'absent'}
end
if num ~= '0' and string.find(num or '', '^%d+$') then return {'plain', record(id)} end
local function granted()
  return {'granted', cjson.encode(record(id)), is_canary(id) and 'canary' or nil}
end
if state ~= 'queued' then
  if job.lease == token then return granted() end
  local due = tonumber(redis.call('ZSCORE', K.due(lane), id)
    or redis.call('ZSCORE', K.due('aside'), id) or 0)
  if due > NOW then
    if state == 'parked' then return {'parked', due - NOW} end
    return {'busy'}
  end
end

-- This message was the youngest claimed so far: an older one still unclaimed was lost. One that was
-- put in front of its queue proves nothing about the others.
if state == 'queued' and job.published and not job.urgent then
  local mark = tonumber(redis.call('HGET', K.watermark, lane) or 0)
  if tonumber(job.published) > mark or mark > NOW then
    redis.call('HSET', K.watermark, lane, job.published) -- or the clock was set back
  end
  if lane == 'event' then redis.call('HSET', K.watermark, 'event claimed', int(NOW)) end
end

-- A job in doubt is past steering: its probe is what finds out whether the code went out.
if not job.doubt then
  local b = batch and fields(K.batch(batch), 'state', 'skip_sent') or {}
  local ends, code = overtaken(job, b.state), nil
  if not ends and b.state == BATCH.PAUSED then
    stop(id, batch, lane, state)
    return {'paused'}
  end
  if not ends and was_sent_meanwhile(job, b.skip_sent) then
    ends, code = 'cancelled', CODE.SENT_MEANWHILE
  end
  if ends then
    finalize(id, batch, lane, state, ends, code)
    return {'final', record(id)}
  end
end

-- While the API's answers halt the account, a job in doubt goes on: its proof has a time limit. While a
-- person halts it, no job does.
local halted = halted_by(id)
if halted and not (halted == 'api' and may_be_proved(job.doubt)) then
  park(id, batch, lane, state, NOW, job.doubt)
  return {'halted'}
end

local taken_until = closed_until(cc, num, id)
if taken_until then
  park(id, batch, lane, state, taken_until, job.doubt)
  return {'parked', taken_until - NOW}
end
if not job.doubt then close_number(cc, num, id, NOW + LEASE_MS) end

unindex(id, batch, lane)
if lane == 'batch' then redis.call('SADD', K.held, id) end
redis.call('HSET', K.job(id), 'lease', token)
move(id, batch, state, 'leased')
schedule(id, lane, NOW + LEASE_MS)
return granted()
