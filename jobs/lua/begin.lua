-- Journal an attempt before its request leaves, and decide what it may be: a first send, a probe
-- inside the number's interval (whatever is answered proves something), late (only a refusal does),
-- or the one blind resend. Late counts as the resend, unless it is refused. The reasoning:
-- docs/decisions/0003-the-probe-window.md
-- tries: of this one, 1, 2 …; margin_ms: from now until its request has arrived, at most
-- slot_ms: the request does not leave before that (0: not known)
-- doubt, counts, story, arrived: of the try before: whether the job is in doubt after it, "keep" | "clear"
--   | "" (there was none), "1" if it counts as an attempt, its story, and see note_arrival
-- held: the number of the slot, if an event may take it, or ""
-- process: that counts its attempts (see identity.lua), or ""
-- undocumented: see the field in jobs.lua; "" to leave it as it is
-- Reply: {"first" | "probe" | "late" | "resend", the job's attempts with this one, its number among the
--   process' (0: not known)} | {"lost"}
--   | {"unknown", hash} | {"over", hash} (cancelled, left out as its number got a code, or too late)
--   | {"moved", number, µs} (an event has the slot; the job has this one)
--   | {"missed"} (an event may have the slot; nothing is recorded, not the try before either)
--   | {"wait", ms} (another job has the number; or 0: its batch is paused or the account halted)
-- Twice with the same try: the same reply, or "missed" for "wait"; nothing counted twice.
local A = arguments('id', 'token', 'tries:number', 'margin_ms:number', 'doubt', 'counts', 'story', 'arrived',
  'slot_ms:number', 'process', 'held', 'undocumented?')
local id, token, try = A.id, A.token, A.tries
note_arrival(A.arrived) -- whoever has the job by now
local job = fields(K.job(id), 'lease', 'state', 'cc', 'num', 'lane', 'batch', 'tries', 'doubt',
  'kind', 'settled', 'asked', 'not_after', 'open', 'by', 'resent', 'early', 'replaces', 'created',
  'attempts', 'counted')
local state, cc, num, lane, batch = job.state, job.cc, job.num, job.lane, job.batch
if job.lease ~= token then
  if job.by ~= token or not FINAL[state] then return {'lost'} end
  return {state == 'unknown' and 'unknown' or 'over', record(id)}
end
if tonumber(job.tries or 0) >= try then
  redis.call('HSET', K.job(id), 'tries', job.tries) -- WAIT waits for what its own connection wrote
  return {job.kind, tonumber(job.attempts or 0), tonumber(job.counted or 0)}
end
if A.held ~= '' then
  local moved_to, at = use_slot(A.held)
  if at then return {'moved', moved_to, at} end
  if not moved_to then return {'missed'} end
end
local doubt, asked, resent = tonumber(job.doubt), tonumber(job.asked), job.resent
local attempts = tonumber(job.attempts or 0)

-- record the outcome of the try before, once
if A.doubt ~= '' and job.settled ~= tostring(try) then
  redis.call('HSET', K.job(id), 'settled', try)
  local as_before = {settle_try(id, A)}
  if A.doubt == 'clear' then doubt, asked, resent = unpack(as_before) end
  if A.counts ~= '1' then attempts = attempts - 1 end
elseif A.doubt == '' and job.open then
  note_lost_outcome(id, job.open)
end

-- Redis was away for longer than a lease, and another job took the number meanwhile.
local taken_until = closed_until(cc, num, id)
if taken_until then return {'wait', taken_until - NOW} end

-- Much may have changed while the job waited for its slot. A probe is past all but a person's halt:
-- it only finds out. Another try in doubt may send a second code, and is not made for a job that is
-- over, nor beyond its attempts.
local b = batch and fields(K.batch(batch), 'state', 'skip_sent') or {}
local was_sent = was_sent_meanwhile(job, b.skip_sent)
local over = was_sent and 'cancelled' or overtaken(job, b.state)
local halted = halted_by(id)

local function ended(reply, final, code)
  redis.call('HSET', K.job(id), 'by', token)
  finalize(id, batch, lane, state, final, code)
  return {reply, record(id)}
end

-- between these two the request arrives
local leaves, arrived = math.max(NOW, A.slot_ms), NOW + A.margin_ms
local kind = 'first'
if doubt then
  if arrived <= doubt + INTERVAL_MS then
    if halted == 'person' then return {'wait', 0} end
    kind = 'probe'
  elseif halted and POLICY ~= 'hold' and not over then
    return {'wait', 0}
  elseif POLICY == 'hold' or over or attempts >= MAX_ATTEMPTS
      or resent and not was_out(doubt, doubt + INTERVAL_MS) then
    if is_canary(id) then redis.call('HSET', K.account, 'canary_due', int(NOW)) end -- it tries nothing
    redis.call('HSET', K.job(id), 'code', CODE.UNPROVED)
    return ended('unknown', 'unknown', CODE.UNPROVED)
  else
    -- until then the number was closed to all other jobs, so a refusal is for one of this job's
    kind = leaves <= asked + INTERVAL_MS and 'late' or 'resend'
    redis.call('HSET', K.job(id), 'doubt_before', int(doubt), 'asked_before', int(asked), 'resent', 1)
    flag_duplicate(id, try)
    doubt, asked = leaves, 0
  end
elseif over then
  open_number(cc, num, id)
  return ended('over', over, was_sent and CODE.SENT_MEANWHILE)
elseif halted or b.state == BATCH.PAUSED then
  return {'wait', 0}
else
  doubt, asked = leaves, 0
  -- It was refused once because a code had just gone to its number. This job was not known to have
  -- sent one; after lost writes it may have been this job's nevertheless.
  if job.early then flag_duplicate(id, try) end
end
if may_be_forgotten(cc, num, batch, job.created) then flag_duplicate(id, try) end
attempts = redis.call('HINCRBY', K.job(id), 'attempts', 1)
local counted = count_attempt(A.process)
redis.call('HSET', K.job(id), 'tries', try, 'counted', counted, 'doubt', int(doubt), 'kind', kind,
  'asked', int(math.max(asked or 0, arrived)), 'open', int(leaves) .. ':' .. kind)
move(id, batch, state, 'sending')
schedule(id, lane, NOW + LEASE_MS)
-- the other jobs of this number wait until this attempt can no longer be refused for it
close_number(cc, num, id, arrived + INTERVAL_MS)
return {kind, attempts, counted}
