-- How jobs end, and what is a dead letter.

-- Count what joins or leaves the dead-letter list.
local function count_letter(batch, code, state, by)
  for _, key in ipairs({K.dead_codes, state == 'unknown' and K.dead_unknown or nil}) do
    if redis.call('HINCRBY', key, code, by) <= 0 then redis.call('HDEL', key, code) end
  end
  if state == 'unknown' then redis.call('HINCRBY', K.sweeps, 'unknown', by) end
  if batch then redis.call('HINCRBY', K.batch(batch), 'letters', by) end
end

-- Under which code an entry was counted whose job is gone is lost: count the others anew. Of a long
-- list that would take too long for one step; `mend` does it in its own time.
local function recount_letters()
  if redis.call('LLEN', K.dead) > 10000 then return end
  redis.call('DEL', K.dead_codes, K.dead_unknown)
  redis.call('HDEL', K.sweeps, 'unknown')
  for _, id in ipairs(redis.call('LRANGE', K.dead, 0, -1)) do
    if redis.call('TYPE', K.job(id)).ok == 'hash' then
      local job = fields(K.job(id), 'state', 'code')
      if job.state == 'dead' or job.state == 'unknown' then count_letter(nil, job.code or '', job.state, 1) end
    end
  end
end

-- Keep a job for so long, or until further notice; the jobs in whose place it stands for as long as it.
local function keep(id, ms)
  while id do
    if ms then
      redis.call('PEXPIRE', K.job(id), int(ms))
    else
      redis.call('PERSIST', K.job(id))
    end
    id = redis.call('HGET', K.job(id), 'replaces')
  end
end

-- The states whose code is counted.
local HAS_CODE = {dead = 1, unknown = 1, cancelled = 1}

local LOST = 'Ledger.Unreadable'

-- Record a job's final state, once: indexes, counters, dead-letter list and expiry in one step.
local function finalize(id, batch, lane, from, state, retention_ms, now, code)
  put_down(id, batch, lane)
  if not FINAL[from] then count_event(lane, -1) end
  redis.call('HSET', K.job(id), 'finished', int(now))
  redis.call('HDEL', K.job(id), 'lease', 'due')
  move(id, batch, from, state)
  redis.call('HINCRBY', K.totals, state, 1)
  code = code or ''
  if state == 'cancelled' and code ~= '' then redis.call('HSET', K.job(id), 'code', code, 'message', '') end
  if state == 'dead' or state == 'unknown' then
    redis.call('RPUSH', K.dead, id)
    count_letter(batch, code, state, 1)
    -- a dead letter stays until a person has dealt with it
    keep(id)
  else
    keep(id, retention_ms)
  end
  if batch then
    if HAS_CODE[state] and code ~= '' then
      redis.call('HINCRBY', K.counts(batch), 'code:' .. code, 1)
    end
    redis.call('SREM', K.open(batch), id)
    if state ~= 'cancelled' then note_pace(batch, now) end
    end_batch_if_done(batch, retention_ms, now)
  end
end

-- End a job whose record is gone, or was set back to before its end: perhaps its code was sent, so a
-- person decides. A batch's row still tells the number, of an event nothing but its id is left.
local function end_lost_job(id, lane, retention_ms, now)
  local job = fields(K.job(id), 'state', 'cc', 'batch')
  if not job.cc then
    local cc, num, row, correction
    if lane == 'batch' then job.batch, row, correction = string.match(id, '^(.+)%-(%d+)(.*)$') end
    if correction == '' then
      local text = redis.call('LINDEX', K.rows(job.batch), row - 1) or ''
      cc, num = string.match(text, '^(%d+)\t(%d+)\t')
    end
    redis.call('HSET', K.job(id), 'cc', cc or '0', 'num', num or '0', 'lane', lane,
      'created', int(now), 'attempts', 0, 'tries', 0) -- 0: not known
    if job.batch then redis.call('HSET', K.job(id), 'batch', job.batch) end
  end
  redis.call('HSET', K.job(id), 'code', LOST, 'message', '')
  finalize(id, job.batch, lane, job.state, 'unknown', retention_ms, now, LOST)
  note_damage('the record of job ' .. id .. ' was lost: perhaps its code was sent, it is unknown')
end
