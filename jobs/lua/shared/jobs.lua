-- A job and the indexes that say who looks after it. A lane is "event" or "batch". A job's hash:
--   state, cc, num, lane, batch?, created, published, call?, lease?, attempts, tries, doubt?, dup?,
--   dup_by?, resent?, early?, not_after?, code, message, request_id, finished, waits, by, kind, settled,
--   spared, urgent?, open?, told, story:<n>; and by a person's hand: dropped, replaces, replaced_by
--   call: the call that an event came by
--   doubt: when the first attempt whose fate is open left at the earliest; absent if there is none
--   asked: when the last of them arrived at the latest; doubt_before, asked_before: both as they
--     were before the resend
--   dup, dup_by: it may have been sent twice, by which try; resent: the one resend was made; early:
--     it was refused as too early, though no code of it was known
--   barred, barred_at, barred_try, barred_as: see refuse.lua; canary_of: of which trouble it was canary
--   open: "when it left:what it was" of a try whose outcome nobody has told
--   tries: calls made; attempts: those of them that count; by: the lease that ended the job or laid
--     it aside, or the person's decision about it

local function record(id)
  return redis.call('HGETALL', K.job(id))
end

local function move(id, batch, from, to)
  redis.call('HSET', K.job(id), 'state', to)
  if batch and from ~= to then
    if from then redis.call('HINCRBY', K.counts(batch), from, -1) end
    redis.call('HINCRBY', K.counts(batch), to, 1)
  end
end

-- Count an event that is not final yet: as many are in due:event.
local function count_event(lane, by)
  if lane == 'event' then redis.call('HINCRBY', K.sweeps, 'events', by) end
end

-- Take a job out of every index that says somebody still has to do something about it.
local function put_down(id, batch, lane)
  redis.call('ZREM', K.due(lane), id)
  if lane == 'batch' then
    redis.call('ZREM', K.due('aside'), id)
    redis.call('SREM', K.held, id)
  end
  if batch then redis.call('SREM', K.stopped(batch), id) end
end

-- A message in a long queue is looked for later: its turn cannot have come yet, and thousands that
-- merely wait must not stand before the few jobs that have to be recovered.
local function patience_ms(lane, grace_ms)
  local waiting = redis.call('LLEN', lane == 'event' and K.event_queue or K.batch_queue)
  return math.floor(grace_ms * (1 + waiting / 200))
end

local function look_again(id, lane, at)
  redis.call('ZADD', K.due(lane), int(at), id)
end

local function lay_down(id, batch, lane, from, at)
  put_down(id, batch, lane)
  redis.call('HDEL', K.job(id), 'lease')
  redis.call('HSET', K.job(id), 'due', int(at))
  move(id, batch, from, 'parked')
end

-- Batch jobs that wait without a doubt wait apart: there may be many, they are published only as
-- there is room, and no job that has to be recovered may stand behind them.
local function park(id, batch, lane, from, at, doubt)
  lay_down(id, batch, lane, from, at)
  look_again(id, (lane == 'event' or doubt) and lane or 'aside', at)
end

-- A job that is due while its batch is paused waits without a date, until the batch is fed again.
local function stop(id, batch, lane, from, now)
  lay_down(id, batch, lane, from, now)
  redis.call('SADD', K.stopped(batch), id)
end
