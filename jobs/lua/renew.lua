-- Keep the leases of jobs in work.
-- leases: id, token, id, …
-- Reply: the ids whose lease is no longer the caller's
local A = arguments('leases:rest')
local lost = {}
local until_ms = NOW + LEASE_MS
for i = 1, #A.leases, 2 do
  local id, token = A.leases[i], A.leases[i + 1]
  local job = fields(K.job(id), 'lease', 'lane', 'cc', 'num', 'doubt')
  if job.lease == token then
    schedule(id, job.lane, until_ms)
    local holder = redis.call('HGET', number_key(job.cc, job.num), 'job')
    if not job.doubt and (not holder or holder == id) then
      close_number(job.cc, job.num, id, until_ms)
    end
  else
    lost[#lost + 1] = id
  end
end
return lost
