-- Find what must be published now: parked jobs that are due, jobs whose lease ran out, published
-- jobs whose message is gone, and the next rows of the running batches. Any number of workers may
-- sweep at any time: what one took is not due for the next.
-- ARGV: limit (jobs looked at per lane), depth (batch jobs published or leased at most), grace_ms
--   (a message younger than that is not missed), retention_ms, canary_ms, provable_ms
--   (see may_be_proved)
-- Reply: {lane whose queue to use, id, lane, id, …}, {ids that go in front of their queue}
-- Twice: the second finds nothing new; what the first took is missed after grace_ms at the latest.
local limit, depth, grace = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local retention_ms, canary_ms, provable = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local now = now_ms()
local found, urgent = {}, {}

-- When nobody swept for a while, Redis was away or no worker was up. Whoever still has a job in work
-- gets a moment to renew its lease, or to record an outcome that it could not record.
local sweeps = redis.call('HMGET', K.sweeps, 'at', 'patient_until')
local patient_until = tonumber(sweeps[2]) or 0
if sweeps[1] and now - tonumber(sweeps[1]) > grace then patient_until = now + grace end
redis.call('HSET', K.sweeps, 'at', int(now), 'patient_until', int(patient_until))

local budget, chooses_canary = math.huge, false

-- A job that was in work already goes in front of all others: if it is in doubt, its proof has a time
-- limit, which a long queue would outlast.
local function publish(id, batch, lane, from, is_urgent)
  put_down(id, batch, lane)
  redis.call('HDEL', K.job(id), 'lease')
  redis.call('HSET', K.job(id), 'published', int(now))
  move(id, batch, from, 'queued')
  if lane == 'batch' then redis.call('SADD', K.held, id) end
  look_again(id, lane, now + grace)
  found[#found + 1] = is_urgent and 'event' or lane
  found[#found + 1] = id
  if is_urgent then
    redis.call('HSET', K.job(id), 'urgent', 1)
    urgent[#urgent + 1] = id
  else
    redis.call('HDEL', K.job(id), 'urgent')
  end
  budget = budget - 1
  if chooses_canary then
    redis.call('HSET', K.account, 'canary', id, 'canary_due', int(now + canary_ms))
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
  return published + grace < tonumber(mark or 0)
end

-- Until when another job has the number; nil if none has.
local function closed_until(cc, num, id)
  local closed = redis.call('HMGET', number_key(cc, num), 'job', 'until')
  local until_ms = tonumber(closed[2])
  return closed[1] and closed[1] ~= id and until_ms > now and until_ms or nil
end

-- Leave a job in work to its worker for a moment, once for each lease: where sweeps are always far
-- apart, every one follows a silence.
local function is_spared(id, lane, state, lease, spared)
  local is_in_work = state == 'leased' or state == 'sending'
  if not is_in_work or now >= patient_until or lease == spared then return false end
  redis.call('HSET', K.job(id), 'spared', lease)
  look_again(id, lane, patient_until)
  return true
end

-- Jobs of a lane whose time has come; at most `space` of them are published.
local function look_after(key, lane, space)
  local due = redis.call('ZRANGEBYSCORE', key, '-inf', int(now), 'LIMIT', 0, limit)
  for _, id in ipairs(due) do
    if space <= 0 or budget <= 0 then return end
    local j = redis.call('HMGET', K.job(id), 'state', 'batch', 'doubt', 'published', 'not_after',
      'urgent', 'lease', 'spared', 'cc', 'num')
    local state, batch, doubt = j[1], j[2], j[3]
    local steering = batch and not doubt and redis.call('HGET', K.batch(batch), 'state')
    local taken_until = state == 'parked' and not doubt and closed_until(j[9], j[10], id)
    if not state or FINAL[state] then
      put_down(id, batch, lane)
    elseif steering == 'cancelled' then
      finalize(id, batch, lane, state, 'cancelled', retention_ms, now)
    elseif not doubt and j[5] and tonumber(j[5]) <= now then
      finalize(id, batch, lane, state, 'expired', retention_ms, now)
    elseif steering == 'paused' then
      stop(id, batch, lane, state, now)
    elseif state == 'queued' and not chooses_canary
        and not message_is_gone(lane, tonumber(j[4]), j[6]) then
      look_again(id, lane, now + (j[6] and grace or patience_ms(lane, grace)))
    elseif is_spared(id, lane, state, j[7], j[8]) then
      -- so it is
    elseif taken_until then
      -- a file may name one number a thousand times: those rows must not take the others' room
      redis.call('HSET', K.job(id), 'due', int(taken_until))
      redis.call('ZADD', key, int(taken_until), id)
    else
      space = space - 1
      publish(id, batch, lane, state,
        doubt or state ~= 'parked' and (state ~= 'queued' or lane == 'event'))
    end
  end
end

-- What costs no request is bounded apart: rejected rows to pass over, expired ones to end, jobs to
-- look at for a doubt while all sending is halted.
local PASSED, ENDED, HALTED = 10000, 200, 10000 -- 6 ms, 20 ms, 20 ms

-- The next row of a batch as a job; nil if it has none now, or enough rejected ones were passed over.
local function next_row(batch)
  local cursor = tonumber(redis.call('HGET', K.batch(batch), 'cursor') or 0)
  local ahead = 0
  while PASSED > 0 do
    local rows = redis.call('LRANGE', K.rows(batch), cursor, cursor + ahead)
    if #rows == 0 then return nil end
    for _, row in ipairs(rows) do
      cursor = cursor + 1
      local cc, num = string.match(row, '^(%d+)\t(%d+)\t')
      if cc then
        redis.call('HSET', K.batch(batch), 'cursor', cursor)
        return cursor, cc, num
      end
    end
    redis.call('HSET', K.batch(batch), 'cursor', cursor)
    PASSED, ahead = PASSED - #rows, 999
  end
  return nil, nil, nil, true
end

local function feed_one(batch)
  local b = redis.call('HMGET', K.batch(batch), 'state', 'max_rate', 'next_at', 'expires_at',
    'imported')
  local state, max_rate = b[1], tonumber(b[2])
  local expired = b[4] and tonumber(b[4]) <= now
  if state ~= 'running' then return 'leave' end
  if max_rate and not expired and tonumber(b[3] or 0) > now then return 'wait' end
  local function feed(id, from)
    if max_rate then
      -- at most a second of unused pace is made up for
      redis.call('HSET', K.batch(batch), 'next_at',
        int(math.max(tonumber(b[3] or 0), now - 1000) + 1000 / max_rate))
    end
    publish(id, batch, 'batch', from)
    return 'fed'
  end
  local stopped = redis.call('SPOP', K.stopped(batch))
  if stopped then return feed(stopped, 'parked') end
  local row, cc, num, more = next_row(batch)
  if not row then
    if more or b[5] ~= '1' then return 'wait' end
    end_batch_if_done(batch, retention_ms, now)
    return 'leave'
  end
  local id = batch .. '-' .. row
  redis.call('HINCRBY', K.batch(batch), 'fed', 1)
  redis.call('HSET', K.job(id), 'cc', cc, 'num', num, 'lane', 'batch', 'batch', batch,
    'created', int(now), 'attempts', 0, 'tries', 0)
  if b[4] then redis.call('HSET', K.job(id), 'not_after', b[4]) end
  if expired then
    finalize(id, batch, 'batch', nil, 'expired', retention_ms, now)
    return 'ended'
  end
  redis.call('SADD', K.open(batch), id)
  return feed(id, nil)
end

-- Batch jobs that may be published before there are too many in flight.
local function room()
  return depth - redis.call('SCARD', K.held)
end

-- Batches take turns row by row; the list remembers whose turn it is.
local function feed()
  local space = math.min(room(), budget)
  local idle = 0
  while space > 0 and ENDED > 0 and idle < redis.call('LLEN', K.running) do
    local batch = redis.call('LINDEX', K.running, 0)
    local did = feed_one(batch)
    if did == 'leave' then
      redis.call('LPOP', K.running)
    else
      redis.call('LMOVE', K.running, K.running, 'LEFT', 'RIGHT')
      if did == 'fed' then
        space, idle = space - 1, 0
      elseif did == 'ended' then
        ENDED, idle = ENDED - 1, 0
      else
        idle = idle + 1
      end
    end
  end
end

-- While the API is out or refuses the account, the jobs in doubt are probed on: their proof has a time
-- limit. None of them came due before its attempt. All others wait for the end of the halt, and may be
-- many.
local function look_after_doubts(lane)
  for first = 0, HALTED - 1, limit do
    local due = redis.call('ZRANGEBYSCORE', K.due(lane), int(now - provable), int(now), 'LIMIT',
      first, limit)
    for _, id in ipairs(due) do
      local j = redis.call('HMGET', K.job(id), 'doubt', 'state', 'batch', 'published', 'urgent',
        'lease', 'spared')
      local state = j[2]
      if not may_be_proved(j[1], provable, now) or FINAL[state] then
        -- another time
      elseif state == 'queued' and not message_is_gone(lane, tonumber(j[4]), j[5]) then
        look_again(id, lane, now + grace)
      elseif is_spared(id, lane, state, j[6], j[7]) then
        -- so it is
      else
        publish(id, j[3], lane, state, true)
      end
    end
    if #due < limit then return end
  end
end

-- A halted account lets one other job try from time to time; a person's halt lets none at all.
local account = redis.call('HMGET', K.account, 'state', 'by', 'canary_due')
if account[1] == 'halted' then
  if account[2] == 'person' then return {found, urgent} end
  look_after_doubts('event')
  look_after_doubts('batch')
  if now < tonumber(account[3] or 0) then return {found, urgent} end
  chooses_canary, budget = true, 1
end

look_after(K.due('event'), 'event', math.huge)
look_after(K.due('batch'), 'batch', math.huge)
look_after(K.due('aside'), 'batch', room())
feed()
return {found, urgent}
