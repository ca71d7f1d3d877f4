-- A batch: the steps between its states, its pace, and how it ends.

-- What leads from one state to another; what is not here is not done. A cancelled batch is cancelled again
-- for those of its jobs that were left by the call before.
local STEPS = {
  pause = {[BATCH.RUNNING] = BATCH.PAUSED},
  resume = {[BATCH.PAUSED] = BATCH.RUNNING},
  cancel = {[BATCH.RUNNING] = BATCH.CANCELLED, [BATCH.PAUSED] = BATCH.CANCELLED,
    [BATCH.CANCELLED] = BATCH.CANCELLED},
  complete = {[BATCH.RUNNING] = BATCH.DONE, [BATCH.PAUSED] = BATCH.DONE},
  reopen = {[BATCH.DONE] = BATCH.RUNNING},
}

-- Keep a key for so long, or until further notice.
local function keep_key(key, ms)
  if ms then redis.call('PEXPIRE', key, int(ms)) else redis.call('PERSIST', key) end
end

-- Likewise a batch, and that it has its content.
local function keep_batch(batch, ms)
  for _, kept in ipairs({K.batch, K.rows, K.cells, K.counts, K.corrected}) do
    keep_key(kept(batch), ms)
  end
  local content = K.content(redis.call('HGET', K.batch(batch), 'digest') or '')
  if redis.call('GET', content) == batch then keep_key(content, ms) end
end

-- A job of it is tried again: the batch goes on until that has ended, too. Returns whether it was done.
local function reopen_batch(batch)
  local after = STEPS.reopen[redis.call('HGET', K.batch(batch), 'state')]
  if not after then return false end
  redis.call('HSET', K.batch(batch), 'state', after)
  redis.call('HDEL', K.batch(batch), 'finished')
  keep_batch(batch)
  return true
end

-- A batch is done when all of it was read, all rows were fed, and no fed job is open. It is kept for
-- as long as any of its jobs, dead letters included, so that none of its rows is ever fed again.
local function end_batch_if_done(batch)
  local b = fields(K.batch(batch), 'imported', 'cursor', 'state', 'total', 'letters')
  if not b.state or redis.call('SCARD', K.open(batch)) > 0 then return end
  local over = b.state
  if over ~= BATCH.CANCELLED then
    if b.imported ~= '1' or b.cursor ~= b.total then return end
    over = STEPS.complete[over] or over
    redis.call('HSET', K.batch(batch), 'state', over)
  end
  if redis.call('HSETNX', K.batch(batch), 'finished', int(NOW)) == 1 then
    note_outcome('batch:' .. batch, over)
  end
  if b.imported ~= '1' or (tonumber(b.letters) or 0) > 0 then return end
  keep_batch(batch, RETENTION_MS)
end

-- Count a job that ended into its batch's rate: a count that fades (`Batch.rate` reads it). The first
-- after a long silence only starts the clock.
local function note_pace(batch)
  local b = fields(K.batch(batch), 'state', 'pace', 'pace_at')
  if not b.state then return end -- its record was lost: mending makes it anew
  local at = tonumber(b.pace_at)
  if not at or NOW - at > 5 * RATE_FADES_MS then
    redis.call('HSET', K.batch(batch), 'pace', 0, 'pace_at', int(NOW), 'pace_from', int(NOW))
  else
    redis.call('HSET', K.batch(batch), 'pace_at', int(NOW),
      'pace', string.format('%.6f', tonumber(b.pace) * math.exp((at - NOW) / RATE_FADES_MS) + 1))
  end
end
