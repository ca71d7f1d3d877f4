-- Pause, resume or cancel a batch. Waiting rows are stopped by the batch's state alone, so this is
-- as quick for a million of them as for one. A pause visits the few that are published. A cancel
-- visits no more of those that were fed than so many in one call, as they may have been parked or
-- requeued by the ten thousand: its caller calls again until none was ended. No harm is done if it does
-- not: the sweep and the claim end the others when they are due.
-- A resume lets a batch that is to start later start now; "scheduled" was its state before then.
-- An undo cancels a batch of which no row became a job, and sets its content free for another batch.
-- order: "pause" | "resume" | "cancel" | "undo"; action: who and why (JSON)
-- Reply: {"absent"} | {the batch's state before, state now, jobs ended by this call}
-- Twice: the second changes nothing, and replies the same states if the action is the same. Jobs in
-- doubt, and in work, are left to end by themselves.
local A = arguments('batch', 'order', 'action')
local batch, order, action = A.batch, A.order, A.action
local VISITS = 500
local b = fields(K.batch(batch), 'state', 'before', 'not_before', 'accepted', 'fed', 'digest',
  'expiry_lost')
local before = b.state
if not before then return {'absent'} end
if order == 'resume' and before == BATCH.RUNNING and tonumber(b.not_before or 0) > NOW then
  redis.call('HSET', K.batch(batch), 'not_before', int(NOW))
  note_action(action)
  return {'scheduled', before, 0}
end
if order == 'undo' then
  if (tonumber(b.fed) or 0) > 0 then return {before, before, 0} end
  local content = K.content(b.digest or '')
  if redis.call('GET', content) == batch then redis.call('DEL', content) end
  redis.call('HSET', K.batch(batch), 'digest', '') -- else `check` would miss the content's key
  order = 'cancel'
end
local after = STEPS[order][before]
if order == 'resume' and b.expiry_lost then after = nil end -- none of its rows could be sent
if not after then return {is_noted(action) and b.before or before, before, 0} end

if after ~= before then
  redis.call('HSET', K.batch(batch), 'state', after, 'before', before)
  redis.call('HDEL', K.batch(batch), 'bound')
  note_action(action)
  if order == 'cancel' then
    redis.call('HSET', K.batch(batch), 'imported', 1)
    redis.call('HINCRBY', K.totals, 'cancelled', b.accepted - b.fed)
  end
elseif is_noted(action) then
  before = b.before
end

local ended = 0
if order == 'cancel' then
  for _, id in ipairs(redis.call('SRANDMEMBER', K.open(batch), VISITS)) do
    local job = fields(K.job(id), 'state', 'doubt')
    if not job.doubt and (job.state == 'queued' or job.state == 'parked') then
      finalize(id, batch, 'batch', job.state, 'cancelled')
      ended = ended + 1
    end
  end
  end_batch_if_done(batch)
elseif order == 'resume' then -- what was stopped is fed first, then the rows
  redis.call('LREM', K.running, 0, batch)
  redis.call('RPUSH', K.running, batch)
else
  for _, id in ipairs(redis.call('SMEMBERS', K.held)) do
    local job = fields(K.job(id), 'state', 'doubt', 'batch')
    if job.batch == batch and job.state == 'queued' and not job.doubt then
      stop(id, batch, 'batch', 'queued')
    end
  end
end
return {before, after, ended}
