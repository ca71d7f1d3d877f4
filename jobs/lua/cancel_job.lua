-- Cancel one job that waits, or the row that it is yet.
-- action: JSON, for the list of actions; batch, row: "" and 0 for none
-- Reply: "cancelled" | "absent" | "in work" | "in doubt" (an attempt may have sent it) | its final state
-- Twice with one action: "cancelled" again.
local A = arguments('id', 'action', 'story', 'batch', 'row:number')
local id, batch, row = A.id, A.batch, A.row
if is_noted(A.action) then return 'cancelled' end
local job = fields(K.job(id), 'state', 'lane', 'batch', 'doubt')
if not job.state then
  local text = row > 0 and redis.call('LINDEX', K.rows(batch), row - 1) or ''
  local cc, num = string.match(text, '^(%d+)\t([^\t]+)\t')
  local b = fields(K.batch(batch), 'state', 'cursor', 'expires_at')
  if not cc or not b.state or row <= tonumber(b.cursor) then return 'absent' end
  if b.state == BATCH.CANCELLED then return 'cancelled' end
  redis.call('LSET', K.rows(batch), row - 1, '-' .. text) -- the feed passes it over
  redis.call('HINCRBY', K.batch(batch), 'fed', 1)
  make_job(id, cc, num, 'batch', batch, b.expires_at)
  job = {lane = 'batch', batch = batch}
elseif FINAL[job.state] then
  return job.state
elseif job.doubt then
  return 'in doubt'
elseif job.state ~= 'queued' and job.state ~= 'parked' then
  return 'in work'
end
finalize(id, job.batch, job.lane, job.state, 'cancelled')
add_story(id, A.story)
note_action(A.action)
return 'cancelled'
