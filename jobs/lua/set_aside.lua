-- Put a dead letter in the place of a job's record that cannot be read, so that nobody takes it up again.
-- What was found is kept beside it for as long as a finished job.
-- lane, batch ("": none), cc, num, term: what is known of it
-- Reply: 1, or 0 if there is no record, or the dead letter already
local A = arguments('id', 'code', 'message', 'lane', 'batch', 'cc', 'num', 'term')
local id, code, lane = A.id, A.code, A.lane
local kind = redis.call('TYPE', K.job(id)).ok
if kind == 'none' then return 0 end
local was = kind == 'hash' and fields(K.job(id), 'state', 'code', 'dup', 'token', 'dropped') or {}
if was.code == code then return 0 end
local batch = redis.call('EXISTS', K.batch(A.batch)) == 1 and A.batch or nil

for _, each in ipairs({'event', 'batch'}) do unindex(id, batch, each) end
local place = redis.call('LPOS', K.dead, id)
local state = (FINAL[was.state] or OPEN[was.state]) and was.state or place and 'dead' or 'queued'
if FINAL[state] then redis.call('HINCRBY', K.totals, state, -1) end
if place then
  count_letter(batch, was.code or '', state, -1)
  if batch and was.code then redis.call('HINCRBY', K.counts(batch), 'code:' .. was.code, -1) end
end
if was.dropped and FOR_A_PERSON[state] then count_left(batch, state, -1) end
redis.call('RENAME', K.job(id), K.unreadable(id))
redis.call('PEXPIRE', K.unreadable(id), int(RETENTION_MS))

make_job(id, A.cc, A.num, lane, batch, A.term)
redis.call('HSET', K.job(id), 'code', code, 'message', A.message)
if was.token then redis.call('HSET', K.job(id), 'token', was.token) end
if was.dup then redis.call('HSET', K.job(id), 'dup', was.dup) end
finalize(id, batch, lane, state, 'unknown', code)
if place then
  redis.call('RPOP', K.dead) -- it keeps its place
  if not was.code then count_letters_if_few() end
end
return 1
