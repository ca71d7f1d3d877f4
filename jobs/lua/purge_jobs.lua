-- Remove jobs that ended before a time, each with those in whose place it stands. What has not ended stays,
-- and a dead letter that nobody has dealt with, one whose outcome is on its way to a backend, and, unless
-- the batch itself is being removed, all that is of a batch that is kept.
-- before: ms; batch: the one that is being removed, else ""; dry: "1": only count
-- action: for the list of actions, else ""
-- Reply: how many were removed, those in whose place they stood included
-- Twice: what is gone is not counted again; the action is noted once.
local A = arguments('before:number', 'batch', 'dry', 'action', 'ids:rest')
local LONGEST_CHAIN = 100 -- so it ends whatever a damaged record holds

local function read(id)
  if redis.call('TYPE', K.job(id)).ok ~= 'hash' then return nil end
  local job = fields(K.job(id), 'state', 'finished', 'batch', 'lane', 'token', 'dropped', 'replaces',
    'replaced_by')
  return job.state and job
end

-- The job that stands in its place by now, if one does.
local function last_of(id)
  local job = read(id)
  for _ = 1, LONGEST_CHAIN do
    local after = job and job.replaced_by and read(job.replaced_by)
    if not after then break end
    id, job = job.replaced_by, after
  end
  return id, job
end

local function may_go(id, job)
  if not FINAL[job.state] then return false end
  if FOR_A_PERSON[job.state] and not job.dropped and job.lane ~= 'test' then return false end
  if job.token and redis.call('ZSCORE', K.outbox(job.token), id) then return false end
  if A.batch ~= '' then return job.batch == A.batch end
  if job.batch and redis.call('EXISTS', K.batch(job.batch)) == 1 then return false end
  return (tonumber(job.finished) or A.before) < A.before
end

local function remove(id, job)
  local removed = 0
  for _ = 1, LONGEST_CHAIN do
    removed = removed + 1
    if A.dry ~= '1' then
      for key in bound_to(id) do redis.call('DEL', K.bound(key)) end
      redis.call('DEL', K.job(id))
      if job.token then redis.call('ZREM', K.undelivered(job.token), id) end
    end
    id = job.replaces
    job = id and read(id)
    if not job then break end
  end
  return removed
end

local removed, done = 0, {}
for _, each in ipairs(A.ids) do
  local id, job = last_of(each)
  if job and not done[id] and may_go(id, job) then
    done[id] = true
    removed = removed + remove(id, job)
  end
end
if A.action ~= '' and not is_noted(A.action) then note_action(A.action) end
return removed
