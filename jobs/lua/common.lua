-- What the scripts share. Times are whole milliseconds on this server's clock (µs where named so).
-- A lane is "event" or "batch". A job's hash:
--   state, cc, num, lane, batch?, created, published, lease?, attempts, tries, doubt?, dup?,
--   not_after?, code, message, request_id, finished, waits, by, kind, settled, spared, urgent?,
--   open?, told, story:<n>; and by a person's hand: dropped, replaces, replaced_by
--   doubt: when the first attempt whose fate is open left at the earliest; absent if there is none
--   asked: when the last of them arrived at the latest; doubt_before, asked_before: both as they
--     were before the resend
--   open: "when it left:what it was" of a try whose outcome nobody has told
--   tries: calls made; attempts: those of them that count; by: the lease that ended the job or laid
--     it aside, or the person's decision about it

local FINAL = {sent = 1, sent_inferred = 1, dead = 1, unknown = 1, cancelled = 1, expired = 1}

local function now_us()
  local t = redis.call('TIME')
  return t[1] * 1000000 + t[2]
end

local function now_ms()
  return math.floor(now_us() / 1000)
end

-- Redis turns numbers above 2^53 / 100 or so into exponents; this keeps every digit.
local function int(n)
  return string.format('%.0f', n)
end

local function number_key(cc, num)
  return K.number(redis.sha1hex(cc .. '-' .. num))
end

local function move(id, batch, from, to)
  redis.call('HSET', K.job(id), 'state', to)
  if batch and from ~= to then
    if from then redis.call('HINCRBY', K.counts(batch), from, -1) end
    redis.call('HINCRBY', K.counts(batch), to, 1)
  end
end

-- Take a job out of every index that says somebody still has to do something about it.
local function put_down(id, lane)
  redis.call('ZREM', K.due(lane), id)
  if lane == 'batch' then
    redis.call('ZREM', K.due('aside'), id)
    redis.call('SREM', K.held, id)
  end
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

-- Whether a probe could still find out what became of an attempt in doubt.
local function may_be_proved(doubt, interval, now)
  return doubt and tonumber(doubt) + interval > now
end

-- Batch jobs that wait without a doubt wait apart: there may be many, they are published only as
-- there is room, and no job that has to be recovered may stand behind them.
local function park(id, batch, lane, from, at, doubt)
  put_down(id, lane)
  redis.call('HDEL', K.job(id), 'lease')
  redis.call('HSET', K.job(id), 'due', int(at))
  move(id, batch, from, 'parked')
  look_again(id, (lane == 'event' or doubt) and lane or 'aside', at)
end

-- A batch is done when all of it was read, all rows were fed, and no fed job is open.
local function end_batch_if_done(batch, retention_ms, now)
  local b = redis.call('HMGET', K.batch(batch), 'imported', 'cursor', 'state', 'total')
  if not b[3] or redis.call('SCARD', K.open(batch)) > 0 then return end
  if b[3] ~= 'cancelled' and not (b[1] == '1' and b[2] == b[4]) then return end
  if b[3] ~= 'cancelled' then redis.call('HSET', K.batch(batch), 'state', 'done') end
  redis.call('HSETNX', K.batch(batch), 'finished', int(now))
  if b[1] ~= '1' then return end
  for _, key in ipairs({K.batch(batch), K.rows(batch), K.counts(batch)}) do
    redis.call('PEXPIRE', key, int(retention_ms))
  end
end

-- Count a job that ended into its batch's rate: a count that fades (`Batch.rate` reads it). The first
-- after a long silence only starts the clock.
local function note_pace(batch, now)
  local FADES_MS = 15000
  local p = redis.call('HMGET', K.batch(batch), 'pace', 'pace_at', 'state')
  if not p[3] then return end
  local at = tonumber(p[2])
  if not at or now - at > 5 * FADES_MS then
    redis.call('HSET', K.batch(batch), 'pace', 0, 'pace_at', int(now), 'pace_from', int(now))
  else
    redis.call('HSET', K.batch(batch), 'pace_at', int(now),
      'pace', string.format('%.6f', tonumber(p[1]) * math.exp((at - now) / FADES_MS) + 1))
  end
end

local function count_dead(code, state, by)
  for _, key in ipairs({K.dead_codes, state == 'unknown' and K.dead_unknown or nil}) do
    if redis.call('HINCRBY', key, code, by) <= 0 then redis.call('HDEL', key, code) end
  end
end

-- Give a job its final state, once: indexes, counters, dead-letter list and expiry in one step.
local function finalize(id, batch, lane, from, state, retention_ms, now, code)
  put_down(id, lane)
  redis.call('HSET', K.job(id), 'finished', int(now))
  redis.call('HDEL', K.job(id), 'lease', 'due')
  move(id, batch, from, state)
  redis.call('HINCRBY', K.totals, state, 1)
  code = code or ''
  if state == 'dead' or state == 'unknown' then
    redis.call('RPUSH', K.dead, id)
    count_dead(code, state, 1)
    if batch and code ~= '' then redis.call('HINCRBY', K.counts(batch), 'code:' .. code, 1) end
    -- a dead letter stays until a person has dealt with it
    redis.call('PERSIST', K.job(id))
  else
    redis.call('PEXPIRE', K.job(id), int(retention_ms))
  end
  if batch then
    redis.call('SREM', K.open(batch), id)
    if state ~= 'cancelled' then note_pace(batch, now) end
    end_batch_if_done(batch, retention_ms, now)
  end
end

-- A number is closed to other jobs until a time. Its record may live longer: it also remembers the
-- codes sent (`codes`, `sent`).
local function close_number(cc, num, id, now, until_ms)
  local key = number_key(cc, num)
  redis.call('HSET', key, 'job', id, 'until', int(until_ms))
  local ttl = math.max(1, until_ms - now)
  if redis.call('PTTL', key) < ttl then redis.call('PEXPIRE', key, int(ttl)) end
end

local function open_number(cc, num, id)
  local key = number_key(cc, num)
  if redis.call('HGET', key, 'job') == id then redis.call('HDEL', key, 'job', 'until') end
end

local function note_code_sent(cc, num, now, retention_ms)
  local key = number_key(cc, num)
  redis.call('HINCRBY', key, 'codes', 1)
  redis.call('HSET', key, 'sent', int(now))
  redis.call('PEXPIRE', key, int(retention_ms))
end

local function record(id)
  return redis.call('HGETALL', K.job(id))
end

-- Tell the limiter when a slot's request reached the API at the latest: `arrived` is
-- "slot number:slots per window:sent, µs on this clock:answer time, µs (empty: no answer came)", or ""
-- if it never left. How much of an answer time was the way in is unknown; all of it above the shortest
-- is assumed.
local function note_arrival(arrived)
  if arrived == '' then return end
  local slot, per_window, sent_us, rtt = string.match(arrived, '^(%d+):(%d+):(%d+):(%d*)$')
  local index = tonumber(slot) % tonumber(per_window)
  local entry = redis.call('HGET', K.ring, index)
  if not entry or string.match(entry, '^%d+') ~= slot then return end
  rtt = tonumber(rtt)
  local p = redis.call('HMGET', K.pace, 'rtt_min_us', 'caution_us', 'heard')
  local shortest, caution = tonumber(p[1]) or rtt, tonumber(p[2]) or 60000
  if not rtt then
    local known = tonumber(string.match(entry, ':(%d+)$'))
    redis.call('HSET', K.ring, index, slot .. ':' .. int(math.max(known, sent_us + caution)))
    return
  end
  local heard = tonumber(p[3]) or 0
  -- the shortest answer time creeps up, so that a longer route is believed after some minutes
  shortest = math.min(rtt, shortest + (rtt - shortest) / 2000)
  local excess = math.min(rtt - shortest, caution)
  -- the first few answers do not tell yet what the shortest is
  if heard < 40 then excess = caution end
  -- without refusals less and less of the excess is believed to be the way in, down to 12 ms
  caution = caution - (caution - 12000) / 6000
  redis.call('HSET', K.pace, 'rtt_min_us', int(shortest), 'caution_us', int(caution),
    'heard', int(heard + 1))
  redis.call('HSET', K.ring, index, slot .. ':' .. int(tonumber(sent_us) + excess))
end

-- Another try may send twice, if an earlier one was accepted and its interval is over.
local function flag_duplicate(id)
  redis.call('HSET', K.job(id), 'dup', 1)
  redis.call('HINCRBY', K.totals, 'possible_duplicate', 1)
end

local function unflag_duplicate(id)
  if redis.call('HDEL', K.job(id), 'dup') == 1 then
    redis.call('HINCRBY', K.totals, 'possible_duplicate', -1)
  end
end

-- The last try certainly sent nothing: all is as it was before it. Gives doubt, asked and dup.
local function clear_doubt(id)
  local j = redis.call('HMGET', K.job(id), 'kind', 'doubt_before', 'asked_before')
  if j[1] ~= 'late' and j[1] ~= 'resend' then
    redis.call('HDEL', K.job(id), 'doubt', 'asked')
    return nil
  end
  redis.call('HSET', K.job(id), 'doubt', j[2], 'asked', j[3], 'kind', '')
  unflag_duplicate(id)
  return tonumber(j[2]), tonumber(j[3]), nil
end

-- A job's story keeps its beginning and its end: one that is throttled for days must not grow.
local function tell_story(id, story)
  if story == '' then return end
  local FIRST, LAST = 20, 80
  local n = redis.call('HINCRBY', K.job(id), 'told', 1)
  redis.call('HSET', K.job(id), 'story:' .. n, story)
  if n - LAST > FIRST then redis.call('HDEL', K.job(id), 'story:' .. n - LAST) end
end

-- The last try's worker died, or could not say in time what was answered.
local function tell_of_lost_outcome(id, open)
  local left, kind = string.match(open, '^(%d+):(.*)$')
  tell_story(id, '[' .. left .. ',"' .. (kind == 'first' and 'attempt' or kind) .. '","","",null,'
    .. '"outcome not known: its worker was lost, or could not tell it in time"]')
  redis.call('HDEL', K.job(id), 'open')
end
