-- Pause, resume or cancel a batch. Waiting rows are stopped by the batch's state alone, so this is
-- as quick for a million of them as for one; the few that were fed are visited one by one.
-- ARGV: batch id, "pause" | "resume" | "cancel", retention_ms, who and why (JSON)
-- Reply: {"absent"} | {the batch's state before, state now}
-- Twice: the second changes nothing. Jobs in doubt, and in work, are left to end by themselves.
local batch, order, retention_ms = ARGV[1], ARGV[2], tonumber(ARGV[3])
local before = redis.call('HGET', K.batch(batch), 'state')
if not before then return {'absent'} end
local now = now_ms()
local allowed = {pause = {running = 'paused'}, resume = {paused = 'running'},
  cancel = {running = 'cancelled', paused = 'cancelled'}}
local after = allowed[order][before]
if not after then return {before, before} end
redis.call('HSET', K.batch(batch), 'state', after)
redis.call('LPUSH', K.actions, ARGV[4])
redis.call('LTRIM', K.actions, 0, 9999)
if order == 'resume' then
  redis.call('LREM', K.running, 0, batch)
  redis.call('RPUSH', K.running, batch)
end
if order == 'cancel' then
  redis.call('HSET', K.batch(batch), 'imported', 1)
  local waiting = tonumber(redis.call('HGET', K.batch(batch), 'accepted'))
    - tonumber(redis.call('HGET', K.batch(batch), 'fed'))
  redis.call('HINCRBY', K.totals, 'cancelled', waiting)
end
for _, id in ipairs(redis.call('SMEMBERS', K.open(batch))) do
  local j = redis.call('HMGET', K.job(id), 'state', 'doubt')
  if j[1] == 'parked' and order == 'resume' then
    if not j[2] and not redis.call('ZSCORE', K.due('aside'), id) then
      look_again(id, 'aside', now)
    end
  elseif not j[2] and (j[1] == 'queued' or j[1] == 'parked') then
    if order == 'cancel' then
      finalize(id, batch, 'batch', j[1], 'cancelled', retention_ms, now)
    elseif order == 'pause' and j[1] == 'queued' then
      park(id, batch, 'batch', 'queued', now)
      redis.call('ZREM', K.due('aside'), id)
    end
  end
end
if order == 'cancel' then end_batch_if_done(batch, retention_ms, now) end
return {before, after}
