-- Find what must be published now: parked jobs that are due, jobs whose lease ran out, published
-- jobs whose message is gone, and the next rows of the running batches. Any number of workers may
-- sweep at any time: what one took is not due for the next.
-- limit: jobs looked at per lane; depth: batch jobs published or leased at most; or more, while requests
--   wait for the API's answer: `ahead` that have not been sent yet, and all in all what leaves
--   SPARE_THREADS for events, where each living worker has so many `threads` (0: not known)
-- known: what the caller remembers of the ledger (see identity.lua)
-- Reply: {lane whose queue to use, id, lane, id, …}, {ids that go in front of their queue}, what to
--   remember from now on, attempts of the caller that the ledger knows (-1: all), {ids whose records
--   nothing can be done with}, {ids whose outcomes are to be delivered}, 1 if stricter bounds than the
--   caller's hold for batches; or {"refused"}
-- Twice: the second finds nothing new; what the first took is missed after GRACE_MS at the latest.
local A = arguments('limit:number', 'depth:number', 'ahead:number', 'threads:number', 'known')
local limit, depth = A.limit, A.depth
if refused(A.known) then return {'refused'} end
keep_attempts(A.known)
local found, urgent, broken = {}, {}, {}
local bounds, is_stricter = bounds_of_all()
local reply = {found, urgent, grow(), attempts_known(A.known) or -1, broken,
  take_outcomes(), is_stricter and 1 or 0}

-- When nobody swept for a while, Redis was away or no worker was up. Whoever still has a job in work
-- gets a moment to renew its lease, or to record an outcome that it could not record.
local sweeps = fields(K.sweeps, 'at', 'patient_until')
local patient_until = tonumber(sweeps.patient_until) or 0
if sweeps.at and NOW - tonumber(sweeps.at) > GRACE_MS then patient_until = NOW + GRACE_MS end
redis.call('HSET', K.sweeps, 'at', int(NOW), 'patient_until', int(patient_until))

-- how many jobs may be published yet; and while a canary is chosen, whether a job may be it
local budget, may_be_canary = math.huge, nil
local account = fields(K.account, 'state', 'by', 'canary', 'canary_due', 'outage', 'since')

-- A job that was in work already goes in front of all others: if it is in doubt, its proof has a time
-- limit, which a long queue would outlast.
local function publish(id, batch, lane, from, is_urgent)
  unindex(id, batch, lane)
  redis.call('HDEL', K.job(id), 'lease')
  redis.call('HSET', K.job(id), 'published', int(NOW))
  move(id, batch, from, 'queued')
  if lane == 'batch' then redis.call('SADD', K.held, id) end
  schedule(id, lane, NOW + GRACE_MS)
  found[#found + 1] = is_urgent and 'event' or lane
  found[#found + 1] = id
  if is_urgent then
    redis.call('HSET', K.job(id), 'urgent', 1)
    urgent[#urgent + 1] = id
  else
    redis.call('HDEL', K.job(id), 'urgent')
  end
  budget = budget - 1
  if may_be_canary then
    redis.call('HSET', K.account, 'canary', id, 'canary_due', int(NOW + CANARY_MS))
    redis.call('HSET', K.job(id), 'canary_of', account.since)
  end
end

-- A message is gone if its queue is empty, or if a younger one was claimed some time ago; one that
-- was put in front, if any that stood behind it was.
local function message_is_gone(lane, published, is_urgent)
  if is_urgent then lane = 'event' end
  if redis.call('LLEN', lane == 'event' and K.event_queue or K.batch_queue) == 0 then
    return true
  end
  local mark = redis.call('HGET', K.watermark, is_urgent and 'event claimed' or lane)
  return published + GRACE_MS < tonumber(mark or 0)
end

-- Whether a job in work is left to its worker for a moment; once for each lease, as where sweeps are
-- always far apart every one follows a silence.
local function is_spared(id, lane, job)
  local is_in_work = job.state == 'leased' or job.state == 'sending'
  if not is_in_work or NOW >= patient_until or job.lease == job.spared then return false end
  redis.call('HSET', K.job(id), 'spared', job.lease)
  schedule(id, lane, patient_until)
  return true
end

-- Do something about one job of many: a record that is broken must not hold up the others. What has
-- another cause (a full server, a replica) ends the sweep.
local function each(ids, act)
  for _, id in ipairs(ids) do
    local ok, problem = pcall(act, id)
    if not ok then
      local text = type(problem) == 'table' and problem.err or problem
      if not (string.find(text, 'WRONGTYPE') or string.find(text, 'attempt to')
          or string.find(text, 'bad argument') or string.find(text, 'not an integer')) then
        error(problem)
      end
      broken[#broken + 1] = id
    end
  end
end

-- Jobs of a lane whose time has come; at most `space` of them are published.
local function publish_due(key, lane, space)
  each(redis.call('ZRANGEBYSCORE', key, '-inf', int(NOW), 'LIMIT', 0, limit), function(id)
    if space <= 0 or budget <= 0 then return end
    local job = fields(K.job(id), 'state', 'batch', 'doubt', 'published', 'not_after', 'urgent',
      'lease', 'spared', 'cc', 'num', 'canary_of', 'barred')
    local state, batch, doubt = job.state, job.batch, job.doubt
    local steering = batch and not doubt and redis.call('HGET', K.batch(batch), 'state')
    local ends = not doubt and overtaken(job, steering)
    local taken_until = state == 'parked' and not doubt and closed_until(job.cc, job.num, id)
    if not FINAL[state] and not OPEN[state] and redis.call('EXISTS', K.job(id)) == 1 then
      broken[#broken + 1] = id
    elseif not state then
      end_lost_job(id, lane)
    elseif FINAL[state] then
      unindex(id, batch, lane)
    elseif ends then
      finalize(id, batch, lane, state, ends)
    elseif steering == BATCH.PAUSED then
      stop(id, batch, lane, state)
    elseif state == 'queued' and not may_be_canary
        and not message_is_gone(lane, tonumber(job.published or 0), job.urgent) then
      schedule(id, lane, NOW + (job.urgent and GRACE_MS or patience_ms(lane)))
    elseif not is_spared(id, lane, job) then
      if taken_until then
        -- a file may name one number a thousand times: those rows must not take the others' room
        redis.call('HSET', K.job(id), 'due', int(taken_until))
        redis.call('ZADD', key, int(taken_until), id)
      elseif not may_be_canary or may_be_canary(job) then
        space = space - 1
        publish(id, batch, lane, state,
          doubt or state ~= 'parked' and (state ~= 'queued' or lane == 'event'))
      end
    end
  end)
end

-- What costs no request is bounded apart: rejected rows to pass over, expired ones to end.
local may_pass, may_end = 10000, 200 -- 6 ms, 20 ms

-- The next row of a batch as a job: its number in the file, country code, number and mark (jobs/rows.py);
-- nil if it has none now, or enough rejected ones were passed over (true besides, the fifth).
local function next_row(batch)
  local cursor = tonumber(redis.call('HGET', K.batch(batch), 'cursor') or 0)
  local ahead = 0
  while may_pass > 0 do
    local rows = redis.call('LRANGE', K.rows(batch), cursor, cursor + ahead)
    if #rows == 0 then return nil end
    for _, row in ipairs(rows) do
      cursor = cursor + 1
      local cc, num, mark = string.match(row, '^(%d+)\t([^\t]+)\t(%l?)')
      if cc then
        redis.call('HSET', K.batch(batch), 'cursor', cursor)
        return cursor, cc, num, mark
      end
    end
    redis.call('HSET', K.batch(batch), 'cursor', cursor)
    may_pass, ahead = may_pass - #rows, 999
  end
  return nil, nil, nil, nil, true
end

local function feed_one(batch)
  local b = fields(K.batch(batch), 'state', 'max_rate', 'next_at', 'expires_at', 'imported',
    'not_before')
  if b.state ~= BATCH.RUNNING then return 'leave' end
  if tonumber(b.not_before or 0) > NOW then return 'wait' end
  local max_rate, next_at = tonumber(b.max_rate), tonumber(b.next_at or 0)
  local is_expired = b.expires_at and tonumber(b.expires_at) <= NOW
  if max_rate and not is_expired and next_at > NOW then return 'wait' end
  local function feed(id, from)
    if max_rate then
      -- at most a second of unused pace is made up for
      redis.call('HSET', K.batch(batch), 'next_at',
        int(math.max(next_at, NOW - 1000) + 1000 / max_rate))
    end
    publish(id, batch, 'batch', from)
    return 'fed'
  end
  local stopped = redis.call('SPOP', K.stopped(batch))
  if stopped then
    local state = redis.call('HGET', K.job(stopped), 'state')
    if not state then end_lost_job(stopped, 'batch') end
    return state == 'parked' and feed(stopped, 'parked') or 'ended'
  end
  local row, cc, num, mark, more = next_row(batch)
  if not row then
    if more or b.imported ~= '1' then return 'wait' end
    end_batch_if_done(batch)
    return 'leave'
  end
  local id = batch .. '-' .. row
  if redis.call('EXISTS', K.job(id)) == 1 then
    may_pass = may_pass - 4 -- the batch was set back (`check` finds that): no row is fed twice
    return 'passed'
  end
  local is_bound = not is_expired and mark ~= 't'
  local rule = is_bound and spend(bounds_of(bounds, cc))
  if rule then -- the row waits until a person lets the batch go on
    redis.call('HSET', K.batch(batch), 'state', BATCH.PAUSED, 'before', b.state, 'bound', rule,
      'cursor', row - 1)
    return 'leave'
  end
  redis.call('HINCRBY', K.batch(batch), 'fed', 1)
  make_job(id, cc, num, 'batch', batch, b.expires_at)
  if b.expires_at then redis.call('HSET', K.job(id), 'not_after', b.expires_at) end
  if is_expired then
    finalize(id, batch, 'batch', nil, 'expired')
    return 'ended'
  end
  redis.call('SADD', K.open(batch), id)
  return feed(id, nil)
end

-- Batch jobs whose request has left: those of the newest batches, and of the next to be fed. If there are
-- more batches than that, the feed is less deep than it might be.
local function on_the_wire()
  local batches, sending = redis.call('LRANGE', K.running, 0, 9), 0
  for _, batch in ipairs(redis.call('ZREVRANGE', K.batches, 0, 9)) do batches[#batches + 1] = batch end
  local is_counted = {}
  for _, batch in ipairs(batches) do
    if not is_counted[batch] then
      is_counted[batch] = true
      sending = sending + tonumber(redis.call('HGET', K.counts(batch), 'sending') or 0)
    end
  end
  return sending
end

local function threads_of_all()
  local alive = 0
  for _, at in ipairs(redis.call('HVALS', K.workers)) do
    if (tonumber(at) or 0) > NOW - ALIVE_MS then alive = alive + 1 end
  end
  return A.threads * alive
end

-- Batch jobs that may be published before there are too many in flight. The slower the API answers, the
-- more must be, or the rate is not used (Little's law); how long that takes needs not be known for it.
local function room()
  local held = redis.call('SCARD', K.held)
  local deeper = math.min(A.ahead - (held - on_the_wire()), threads_of_all() - SPARE_THREADS - held)
  return math.max(depth - held, deeper)
end

-- Batches take turns row by row; the list remembers whose turn it is.
local function feed()
  local space = math.min(room(), budget)
  local idle = 0
  while space > 0 and may_end > 0 and idle < redis.call('LLEN', K.running) do
    local batch = redis.call('LINDEX', K.running, 0)
    local did = feed_one(batch)
    if did == 'leave' then
      redis.call('LPOP', K.running)
    else
      redis.call('LMOVE', K.running, K.running, 'LEFT', 'RIGHT')
      if did == 'fed' then
        space, idle = space - 1, 0
      elseif did == 'ended' then
        may_end, idle = may_end - 1, 0
      elseif did == 'passed' then
        idle = 0
      else
        idle = idle + 1
      end
    end
  end
end

-- Jobs in doubt before all others: their proof has a time limit, and thousands may be due before them.
-- None of them came due before its attempt, so where nothing else is due this finds next to nothing.
local DOUBTS = 10000 -- looked at in one sweep, 20 ms
local function publish_doubts(lane)
  local passed, looked = 0, 0
  repeat
    local due = redis.call('ZRANGEBYSCORE', K.due(lane), int(NOW - PROVABLE_MS), int(NOW), 'LIMIT',
      passed, limit)
    each(due, function(id)
      local job = fields(K.job(id), 'doubt', 'state', 'batch', 'published', 'urgent', 'lease', 'spared')
      if not may_be_proved(job.doubt) or not OPEN[job.state] then
        passed = passed + 1 -- publish_due sees to it
      elseif job.state == 'queued'
          and not message_is_gone(lane, tonumber(job.published or 0), job.urgent) then
        schedule(id, lane, NOW + GRACE_MS)
      elseif not is_spared(id, lane, job) then
        publish(id, job.batch, lane, job.state, true)
      end
    end)
    looked = looked + #due
  until #due < limit or looked >= DOUBTS
end

-- Whether some job in doubt is being probed, or soon due: it finds out as well whether the API is back,
-- and no other customer may get a second code by that.
local function is_doubt_at_work()
  for _, lane in ipairs({'event', 'batch'}) do
    local due = redis.call('ZRANGEBYSCORE', K.due(lane), int(NOW - PROVABLE_MS), '+inf', 'WITHSCORES',
      'LIMIT', 0, limit)
    for i = 1, #due, 2 do
      local job, at = fields(K.job(due[i]), 'doubt', 'state'), tonumber(due[i + 1])
      if OPEN[job.state] and job.doubt
          and (may_be_proved(job.doubt) or at > NOW and at <= NOW + 2 * GRACE_MS) then
        return true
      end
    end
  end
  return false
end

local function publish_all_due()
  publish_due(K.due('event'), 'event', math.huge)
  publish_due(K.due('batch'), 'batch', math.huge)
  publish_due(K.due('aside'), 'batch', room())
end

-- Another job each time, in case it is the last one's fault; in an outage rather one whose proof has
-- expired: it is to be sent once more anyhow.
local function choose_canary()
  if account.outage and is_doubt_at_work() then return end
  budget, limit = 1, DOUBTS
  for _, in_doubt in ipairs(account.outage and {true, false} or {false}) do
    for _, untried in ipairs({true, false}) do
      may_be_canary = function(job)
        return (not in_doubt or job.doubt)
          and (not untried or job.canary_of ~= account.since and not job.barred)
      end
      publish_all_due()
      if not in_doubt then feed() end
      if budget <= 0 then return end
    end
  end
end

local is_halted = account.state == 'halted'
-- while a person halts the sending, no job tries
if is_halted and account.by == 'person' then return reply end
publish_doubts('event')
publish_doubts('batch')
if is_halted then
  -- one other job may try, from time to time
  if NOW >= tonumber(account.canary_due or 0) then choose_canary() end
  return reply
end
publish_all_due()
feed()
return reply
