-- Keep the leases of jobs in work.
-- ARGV: lease_ms, then id, token for each job
-- Reply: the ids whose lease is no longer the caller's
local lease_ms, now, lost = tonumber(ARGV[1]), now_ms(), {}
for i = 2, #ARGV, 2 do
  local id, token = ARGV[i], ARGV[i + 1]
  local job = fields(K.job(id), 'lease', 'lane', 'cc', 'num', 'doubt')
  if job.lease == token then
    look_again(id, job.lane, now + lease_ms)
    local holder = redis.call('HGET', number_key(job.cc, job.num), 'job')
    if not job.doubt and (not holder or holder == id) then
      close_number(job.cc, job.num, id, now, now + lease_ms)
    end
  else
    lost[#lost + 1] = id
  end
end
return lost
