-- A job: the indexes by which it is looked after, its doubt, and its end. A lane is "event" or "batch"; the
-- job of a test token has "test", and is in no index (submit_test.lua).
--
-- A job's hash; times are ms, and what does not apply is absent:
--   state, cc, num (sealed, see numbers.lua), lane, batch, created; not_after: when it expires; term: the
--     same, as `num` is sealed for; expires_in: ms, as an event's caller asked for; life: instead of both
--     in an event of before, whose `num` is sealed for that
--   call: the call of `submit` that it came by; reference: the caller's name for it
--   trace: the traceparent of its acceptance
--   published: when its message was last; urgent: that went in front of its queue
--   lease: whose it is now; spared: the lease that a sweep left alone for a moment (sweep.lua)
--   due: when a parked job is tried again
--   attempts, tries: calls that count, all calls; kind: what the last one was; counted: its number among
--     its process' (see identity.lua); settled: the call before which the outcome of the one before was
--     recorded
--   open: "when it left:what it was" of a try whose outcome was not recorded yet
--   doubt: when the first attempt whose fate is open left at the earliest; asked: when the last of them
--     arrived at the latest; doubt_before, asked_before: both as they were before the resend
--   dup, dup_by: it may have been sent twice, by which try; resent: the one resend was made
--   early: it was refused as too early, though no code of it was known
--   barred, barred_at, barred_try, barred_as: see refuse.lua; canary_of: of which trouble it was canary
--   undocumented: a try was answered with a code that nobody documented: "alone" if no other try left a
--     doubt, else "among"
--   waits: long waits taken; code, message: of the last answer, or why it ended; request_id: of the answer
--     that ended it
--   by: the token that last ended it, laid it aside or settled it, by which a repetition is known
--   token, key, endings and what else webhooks.lua has
--   bound: "id token," for each key of a later call for its number that was answered with it (submit.lua):
--     the id that the key's own job would have, and whose token called
--   finished; and by a person's hand: dropped (when), requeued (when, the last time), replaces, replaced_by
--     (job ids); corrected: the ids of the jobs of rows of corrected files that took its customer over, with
--     commas between (corrected_by)
--   told: entries of its story so far; story:<n>: the n-th

local function record(id)
  return redis.call('HGETALL', K.job(id))
end

-- The ids of the keys that were answered with a job though they are not its own.
local function bound_to(id)
  return string.gmatch(redis.call('HGET', K.job(id), 'bound') or '', '(%S+) [^,]*,')
end

-- Begin a job's record; cc and num are "0" where they are not known. `term`: to which `num` is bound, if any.
local function make_job(id, cc, num, lane, batch, term)
  redis.call('HSET', K.job(id), 'cc', cc, 'num', num, 'lane', lane, 'created', int(NOW),
    'attempts', 0, 'tries', 0, unpack(batch and {'batch', batch} or {}))
  if term and term ~= '' then redis.call('HSET', K.job(id), 'term', term) end
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

-- Take a job out of every index of jobs that something must still be done about.
local function unindex(id, batch, lane)
  redis.call('ZREM', K.due(lane), id)
  if lane == 'batch' then
    redis.call('ZREM', K.due('aside'), id)
    redis.call('SREM', K.held, id)
  end
  if batch then redis.call('SREM', K.stopped(batch), id) end
end

-- A message in a long queue is missed later: its turn cannot have come yet, and thousands that
-- merely wait must not stand before the few jobs that have to be recovered.
local function patience_ms(lane)
  local waiting = redis.call('LLEN', lane == 'event' and K.event_queue or K.batch_queue)
  return math.floor(GRACE_MS * (1 + waiting / 200))
end

local function schedule(id, lane, at)
  redis.call('ZADD', K.due(lane), int(at), id)
end

local function set_parked(id, batch, lane, from, at)
  unindex(id, batch, lane)
  redis.call('HDEL', K.job(id), 'lease')
  redis.call('HSET', K.job(id), 'due', int(at))
  move(id, batch, from, 'parked')
end

-- Batch jobs that wait without a doubt wait apart: there may be many, they are published only as
-- there is room, and no job that has to be recovered may stand behind them.
local function park(id, batch, lane, from, at, doubt)
  set_parked(id, batch, lane, from, at)
  schedule(id, (lane == 'event' or doubt) and lane or 'aside', at)
end

-- A job that is due while its batch is paused waits without a date, until the batch is fed again.
local function stop(id, batch, lane, from)
  set_parked(id, batch, lane, from, NOW)
  redis.call('SADD', K.stopped(batch), id)
end

-- Whether a probe that is asked for now could still find out what became of an attempt in doubt;
-- PROVABLE_MS is the number's interval less the longest way of the probe.
local function may_be_proved(doubt)
  return doubt and tonumber(doubt) + PROVABLE_MS > NOW
end

local function count_duplicate(id, by)
  redis.call('HINCRBY', K.totals, 'possible_duplicate', by)
  local batch = redis.call('HGET', K.job(id), 'batch')
  if batch then redis.call('HINCRBY', K.counts(batch), 'possible_duplicate', by) end
end

-- Another code may be the second one. `try`: the call that may send it; nil for a person's requeue.
local function flag_duplicate(id, try)
  if redis.call('HSETNX', K.job(id), 'dup', 1) == 0 then return end
  if try then redis.call('HSET', K.job(id), 'dup_by', try) end
  count_duplicate(id, 1)
end

-- The last try certainly sent nothing: all is as it was before it. Returns doubt, asked and resent.
local function clear_doubt(id)
  local job = fields(K.job(id), 'kind', 'doubt_before', 'asked_before', 'dup_by', 'tries')
  if job.dup_by == job.tries then
    redis.call('HDEL', K.job(id), 'dup', 'dup_by')
    count_duplicate(id, -1)
  end
  if job.kind ~= 'late' and job.kind ~= 'resend' then
    redis.call('HDEL', K.job(id), 'doubt', 'asked')
    return nil
  end
  redis.call('HSET', K.job(id), 'doubt', job.doubt_before, 'asked', job.asked_before, 'kind', '')
  redis.call('HDEL', K.job(id), 'resent')
  return tonumber(job.doubt_before), tonumber(job.asked_before), nil
end

-- Record what a job's last try left, if there was one: its story, doubt, counts and undocumented of the script's
-- arguments, see begin.lua. If it is clear of doubt: returns doubt, asked and resent, all as they were before it.
local function settle_try(id, A)
  add_story(id, A.story)
  if (A.undocumented or '') ~= '' then redis.call('HSET', K.job(id), 'undocumented', A.undocumented) end
  if A.doubt ~= '' then redis.call('HDEL', K.job(id), 'open') end
  if A.counts ~= '1' then redis.call('HINCRBY', K.job(id), 'attempts', -1) end
  if A.doubt == 'clear' then return clear_doubt(id) end
end

-- The state in which a job without a doubt ends now, as its batch was cancelled or its time is over; or nil.
local function overtaken(job, batch_state)
  if batch_state == BATCH.CANCELLED then return 'cancelled' end
  return job.not_after and tonumber(job.not_after) <= NOW and 'expired' or nil
end

-- Whether its batch counts a job's code: a cancelled one may have one of before, which is not why it ended.
local function is_code_counted(state, code)
  return code ~= '' and (FOR_A_PERSON[state] or state == 'cancelled' and code == CODE.SENT_MEANWHILE)
end

-- Count what joins or leaves the dead-letter list.
local function count_letter(batch, code, state, by)
  for _, key in ipairs({K.dead_codes, state == 'unknown' and K.dead_unknown or nil}) do
    if redis.call('HINCRBY', key, code, by) <= 0 then redis.call('HDEL', key, code) end
  end
  if state == 'unknown' then redis.call('HINCRBY', K.sweeps, 'unknown', by) end
  if batch then redis.call('HINCRBY', K.batch(batch), 'letters', by) end
end

-- Count one that a person left as it is (or does not leave any more) apart in its batch.
local function count_left(batch, state, by)
  local left = 'left_' .. state
  if batch and redis.call('HINCRBY', K.batch(batch), left, by) < 0 then
    redis.call('HDEL', K.batch(batch), left) -- it was left under a release that did not count
  end
end

-- Count the dead letters anew: under which code one was counted whose job is gone is lost.
local function count_letters()
  redis.call('DEL', K.dead_codes, K.dead_unknown)
  redis.call('HDEL', K.sweeps, 'unknown')
  for _, id in ipairs(redis.call('LRANGE', K.dead, 0, -1)) do
    if redis.call('TYPE', K.job(id)).ok == 'hash' then
      local job = fields(K.job(id), 'state', 'code')
      if FOR_A_PERSON[job.state] then count_letter(nil, job.code or '', job.state, 1) end
    end
  end
end

-- Of a long list that would take too long for one step; `mend` does it in its own time.
local function count_letters_if_few()
  if redis.call('LLEN', K.dead) <= 10000 then count_letters() end
end

-- Keep a job for so long, or until further notice; the jobs in whose place it stands for as long as it.
local function keep(id, ms)
  while id do
    keep_key(K.job(id), ms)
    id = redis.call('HGET', K.job(id), 'replaces')
  end
end

-- Count an end for `status --since`: by worker, state and code, in spans of ten minutes, for 26 hours.
local ENDS_MS, MOST_ENDS = 600000, 500
local function note_end(worker, state, code)
  local key = K.ends(int(math.floor(NOW / ENDS_MS)))
  local field = table.concat({worker, state, code}, '\t')
  if redis.call('HLEN', key) >= MOST_ENDS and not redis.call('HGET', key, field) then
    field = '\t' .. state .. '\t'
  end
  if redis.call('HINCRBY', key, field, 1) == 1 then redis.call('PEXPIRE', key, 93600000) end
end

-- Record a job's final state, once: indexes, counters, dead-letter list and expiry in one step. `code` is
-- why it ended; without one the code of its last answer stays. `worker`: whose word it is, if one's.
local function finalize(id, batch, lane, from, state, code, worker)
  code = code or ''
  note_end(worker or '', state, code)
  unindex(id, batch, lane)
  if not FINAL[from] then count_event(lane, -1) end
  redis.call('HSET', K.job(id), 'finished', int(NOW))
  redis.call('HDEL', K.job(id), 'lease', 'due')
  move(id, batch, from, state)
  redis.call('HINCRBY', K.totals, state, 1)
  redis.pcall('PUBLISH', K.ended, id) -- where it is not allowed, who waits is answered later
  if state == 'cancelled' and code ~= '' then redis.call('HSET', K.job(id), 'code', code, 'message', '') end
  if FOR_A_PERSON[state] then
    redis.call('RPUSH', K.dead, id)
    count_letter(batch, code, state, 1)
    -- a dead letter stays until a person has dealt with it
    keep(id)
  else
    keep(id, RETENTION_MS)
  end
  if batch then
    if is_code_counted(state, code) then redis.call('HINCRBY', K.counts(batch), 'code:' .. code, 1) end
    redis.call('SREM', K.open(batch), id)
    if state ~= 'cancelled' then note_pace(batch) end
    end_batch_if_done(batch)
  end
  note_outcome(id, state)
end

-- End a job whose record is gone, or was set back to before its end: perhaps its code was sent, so a
-- person decides. The number is known still from a batch's row; of an event only its id is left.
local function end_lost_job(id, lane)
  local job = fields(K.job(id), 'state', 'cc', 'batch')
  if not job.cc then
    local cc, num, row, correction, term
    if lane == 'batch' then job.batch, row, correction = string.match(id, '^(.+)%-(%d+)(.*)$') end
    if correction == '' then
      local text = redis.call('LINDEX', K.rows(job.batch), row - 1) or ''
      cc, num = string.match(text, '^(%d+)\t([^\t]+)\t')
      term = redis.call('HGET', K.batch(job.batch), 'expires_at')
    end
    make_job(id, cc or '0', num or '0', lane, job.batch, term)
  end
  redis.call('HSET', K.job(id), 'code', CODE.UNREADABLE, 'message', '')
  finalize(id, job.batch, lane, job.state, 'unknown', CODE.UNREADABLE)
  note_damage('the record of job ' .. id .. ' was lost: perhaps its code was sent, it is unknown')
end

-- Which row's job of a corrected file stands for the customer of a failed job, the youngest, given the
-- ids at the failed one; "" where there is none, or all came to nothing. One that failed stands for
-- the customer, too: it waits for a person in the place of the older one.
local function corrected_by(ids)
  local found = ''
  for id in string.gmatch(ids or '', '[^,]+') do
    local job = redis.pcall('HMGET', K.job(id), 'state', 'code')
    local state = job[1]
    if not state then -- a row yet, or forgotten
      local batch = string.match(id, '^(.+)-%d+$') or ''
      if redis.call('HGET', K.batch(batch), 'state') ~= BATCH.CANCELLED then found = id end
    elseif state ~= 'expired' and (state ~= 'cancelled' or job[2] == CODE.SENT_MEANWHILE) then
      found = id
    end
  end
  return found
end
