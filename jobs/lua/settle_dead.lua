-- Do what a person decided about some dead letters: try them again, put jobs with corrected numbers
-- in their place, or drop them. What is tried again is made due, no more: it goes the way of every
-- job, through claim, interval and limiter.
-- verb: "requeue" | "replace" | "drop"; token: one for each decision
-- action: JSON that begins with the token, for the list of actions; a later one of the same token takes
--   its place
-- first_ms: when the first is due; step_us: by which each next is due later
-- once: 1: leave a job alone whose number another one, that was tried again, still waits for
-- corrected_too: 1: also jobs whose customers a corrected file took over
-- jobs: for each its id, place (where in the dead-letter list it was seen, from 0: a hint), story; to try it
--   again: cc, and num as it is sealed without an expiry, "" if that is not known; to replace it: cc and num of
--   the new job, its id and story
-- Reply: for each job "done" | "absent" | "not dead" | "cancelled" (its batch was)
--   | "waits_elsewhere" (see `once`) | "corrected" (a corrected file took its customer over)
--   | "locked" (its time is over, and its number cannot be sealed without an expiry)
-- Twice with one token: "done" again, nothing is done twice.
local A = arguments('verb', 'token', 'action', 'first_ms?:number', 'step_us?:number', 'once?:number',
  'corrected_too?:number', 'jobs:rest')
local verb, token = A.verb, A.token
local reply, done, gaps, shift, absent = {}, 0, false, 0, {}

-- An entry is blanked in its place, and all blanks are removed at the end: one walk through the
-- list for many jobs. The hint saves looking for the place; where it is wrong, the next ones are wrong
-- by as much, mostly.
local function leave_list(id, hint)
  local place = hint + shift
  if place < 0 or redis.call('LINDEX', K.dead, place) ~= id then
    place = redis.call('LPOS', K.dead, id)
    if not place then return false end
    shift = place - hint
  end
  redis.call('LSET', K.dead, place, '')
  gaps = true
  return true
end

-- Make a job due, and its batch, if it is of one, run on.
local function make_due(id, job)
  keep(id)
  if job.batch then
    redis.call('SADD', K.open(job.batch), id)
    reopen_batch(job.batch)
  end
  count_event(job.lane, 1)
  park(id, job.batch, job.lane, job.state,
    math.max(NOW, A.first_ms or 0) + math.floor(done * (A.step_us or 0) / 1000))
end

-- Whether another job that a person had tried again is still to send a code to the number. Whoever
-- decides has checked what waits, but two may decide at once.
local function is_tried_already(cc, num, id)
  local other = redis.call('HGET', number_key(cc, num), 'again')
  return other and other ~= id and OPEN[redis.call('HGET', K.job(other), 'state') or '']
end

local function note_try(cc, num, id)
  local key = number_key(cc, num)
  redis.call('HSET', key, 'again', id)
  if redis.call('PTTL', key) < RETENTION_MS then redis.call('PEXPIRE', key, int(RETENTION_MS)) end
end

-- When a job's time is over: where that was lost, as its number is sealed for it; 0 if nobody knows, as of
-- an older release's event, whose number was sealed for its life alone; nil if never.
local function end_of(job)
  return tonumber(job.not_after or job.term or job.life and 0)
end

local function is_over(job)
  local ends = end_of(job)
  return ends and ends <= NOW
end

local function is_same_number(job, num)
  return num ~= '' and number_digest(job.cc or '', job.num or '') == number_digest(job.cc or '', num)
end

local function requeue(id, job, num)
  redis.call('HSET', K.job(id), 'by', token, 'attempts', 0, 'requeued', int(NOW))
  redis.call('HDEL', K.job(id), 'finished', 'dropped', 'code', 'message', 'request_id', 'waits',
    'doubt', 'doubt_before', 'asked', 'asked_before', 'kind', 'resent', 'barred', 'barred_at', 'canary_of',
    'undocumented')
  if is_over(job) then -- a person asks for it all the same
    redis.call('HSET', K.job(id), 'num', num)
    if job.life then redis.call('HSET', K.job(id), 'expires_in', job.life) end
    redis.call('HDEL', K.job(id), 'not_after', 'term', 'life')
  elseif end_of(job) then
    redis.call('HSET', K.job(id), 'not_after', int(end_of(job)))
  end
  if job.state == 'unknown' then flag_duplicate(id) end
  redis.call('HINCRBY', K.totals, job.state, -1)
  make_due(id, job)
end

-- In its batch's counts the new job stands for the row from now on.
local function replace(id, job, new, cc, num, story)
  redis.call('HSET', K.job(id), 'by', token, 'replaced_by', new)
  make_job(new, cc, num, job.lane, job.batch)
  redis.call('HSET', K.job(new), 'state', job.state, 'replaces', id)
  for _, name in ipairs({'reference', 'token', 'key'}) do -- it stands for it to whoever asked
    local value = redis.call('HGET', K.job(id), name)
    if value then redis.call('HSET', K.job(new), name, value) end
  end
  add_story(new, story)
  make_due(new, job)
end

local function drop(id, job)
  redis.call('HSET', K.job(id), 'by', token, 'dropped', int(NOW))
  keep(id, RETENTION_MS)
  if job.batch then end_batch_if_done(job.batch) end
end

local function settle(id, place, story, cc, num, new, new_story)
  local job = fields(K.job(id), 'state', 'lane', 'batch', 'code', 'by', 'replaced_by', 'not_after',
    'term', 'life', 'cc', 'num', 'dropped', 'corrected')
  if not job.state then
    if leave_list(id, place) then absent[#absent + 1] = id end
    return 'absent'
  end
  if job.by == token then return 'done' end
  if not FOR_A_PERSON[job.state] or job.replaced_by or job.lane == 'test' then
    if leave_list(id, place) then absent[#absent + 1] = id end
    return 'not dead'
  end
  if verb ~= 'drop' and job.batch
      and redis.call('HGET', K.batch(job.batch), 'state') == BATCH.CANCELLED then
    return 'cancelled'
  end
  if verb ~= 'drop' and A.corrected_too ~= 1 and corrected_by(job.corrected) ~= '' then
    return 'corrected'
  end
  if verb == 'requeue' and is_over(job) and not is_same_number(job, num) then return 'locked' end
  if verb ~= 'drop' then
    if verb == 'requeue' and num == '' then cc, num = job.cc or '', job.num or '' end
    if A.once == 1 and is_tried_already(cc, num, id) then return 'waits_elsewhere' end
    note_try(cc, num, new or id)
  end
  local code = job.code or ''
  if leave_list(id, place) then count_letter(job.batch, code, job.state, -1) end
  if (verb == 'drop') ~= (job.dropped ~= nil) then
    count_left(job.batch, job.state, verb == 'drop' and 1 or -1)
  end
  add_story(id, story)
  if verb ~= 'drop' and job.batch and is_code_counted(job.state, code) then
    redis.call('HINCRBY', K.counts(job.batch), 'code:' .. code, -1)
  end
  if verb == 'requeue' then
    requeue(id, job, num)
  elseif verb == 'replace' then
    replace(id, job, new, cc, num, new_story)
  else
    drop(id, job)
  end
  return 'done'
end

local function forget(id)
  local batch = string.match(string.gsub(id, '%.r%d+$', ''), '^(.+)-%d+$')
  if not batch or (tonumber(redis.call('HGET', K.batch(batch), 'letters')) or 0) < 1 then return end
  redis.call('HINCRBY', K.batch(batch), 'letters', -1)
  end_batch_if_done(batch)
end

local width = ({requeue = 5, replace = 7, drop = 3})[verb]
for i = 1, #A.jobs, width do
  local verdict = settle(unpack(A.jobs, i, i + width - 1))
  reply[#reply + 1] = verdict
  if verdict == 'done' then done = done + 1 end
end
if gaps then redis.call('LREM', K.dead, 0, '') end
for _, id in ipairs(absent) do forget(id) end
if #absent > 0 then count_letters_if_few() end
if done > 0 then
  local head = redis.call('LINDEX', K.actions, 0)
  if head and token_of(head) == token_of(A.action) then
    redis.call('LSET', K.actions, 0, dated(A.action))
  else
    note_action(A.action)
  end
end
return reply
