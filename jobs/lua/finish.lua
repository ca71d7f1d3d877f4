-- Record how a job ended: state, counters, result and dead letter in one step. Only for the holder
-- of its lease, also after the lease ran out, as long as nobody else took the job. But that a code
-- was sent is a fact, whoever learned it and when: it ends the job for every holder, and corrects an
-- end that was recorded in ignorance of it, unless a person has put another job in its place.
-- worker: its name, for the counts of `status --since`
-- number: "closed" | "open" | "keep"; doubt, counts, story, arrived: of the last try, see begin
-- Reply: {"ok", hash of the job as it is now, as JSON}
--   | {"lost"}; of one with another in its place the story tells it
-- Twice with one token: the same again.
local A = arguments('id', 'token', 'state', 'code', 'message', 'request_id', 'number', 'doubt', 'counts',
  'story', 'arrived', 'worker?')
local id, token, state = A.id, A.token, A.state
note_arrival(A.arrived) -- whoever has the job by now
local job = fields(K.job(id), 'lease', 'state', 'cc', 'num', 'lane', 'batch', 'by', 'code',
  'replaced_by', 'open', 'dropped')
local from, cc, num, batch, code = job.state, job.cc, job.num, job.batch, job.code or ''
local is_held = job.lease == token
if not is_held then
  if job.by == token then return {'ok', cjson.encode(record(id))} end
  if not from or not IS_SENT[state] or IS_SENT[from] then return {'lost'} end
  if job.replaced_by then
    local last = redis.call('HGET', K.job(id), 'told') or 0
    if redis.call('HGET', K.job(id), 'story:' .. last) ~= A.story then add_story(id, A.story) end
    return {'lost'}
  end
  if job.open then note_lost_outcome(id, job.open) end
  if FINAL[from] then redis.call('HINCRBY', K.totals, from, -1) end
  if FOR_A_PERSON[from] and redis.call('LREM', K.dead, 1, id) == 1 then
    count_letter(batch, code, from, -1)
  end
  if job.dropped then
    count_left(batch, from, -1)
    redis.call('HDEL', K.job(id), 'dropped')
  end
  if batch and is_code_counted(from, code) then
    redis.call('HINCRBY', K.counts(batch), 'code:' .. code, -1)
  end
end
if is_held then
  settle_try(id, A)
  redis.call('HDEL', K.job(id), 'open')
else
  add_story(id, A.story)
end
redis.call('HSET', K.job(id), 'code', A.code, 'message', A.message, 'request_id', A.request_id,
  'by', token)
if state ~= 'unknown' then redis.call('HDEL', K.job(id), 'doubt', 'asked') end
-- where another job has the number, it could begin: the interval that this code began is over
if not closed_until(cc, num, id) then
  if A.number == 'closed' then
    close_number(cc, num, id, NOW + INTERVAL_MS)
  elseif A.number == 'open' then
    open_number(cc, num, id)
  end
end
if IS_SENT[state] then note_code_sent(cc, num) end
finalize(id, batch, job.lane, from, state, A.code, A.worker)
return {'ok', cjson.encode(record(id))}
