-- Take the next outcome of a job to its endpoint, or record how that went (worker/webhooks.py).
-- id: of the job, or "batch:<id>"
-- verb: "claim" | "delivered" | "failed" | "gone" (the endpoint wants no more); n: which outcome it was
-- give_up_ms: an endpoint that failed for so long is switched off; reason: why it failed
-- delays: ms before the second, third … try; after the last of them the outcome is given up
-- Reply to a claim: {"deliver", n, outcome, JSON, endpoint's name, endpoint, JSON, its hash}, or
--     {"none"}: there is none now, or another worker has it
--   else: {"done" | "off" (it is switched off by this), ids of jobs whose outcomes are to be published}
-- Twice: a claim finds none, and the outcome is tried again in a while; else the second changes nothing.
local A = arguments('id', 'verb', 'n?:number', 'give_up_ms:number', 'reason?', 'delays:rest')
local id, reply = A.id, 'done'
local key = subject_key(id)
local job = fields(key, 'token', 'endings', 'delivered', 'hook_at', 'hook_tries')
local name, endpoint = job.token, endpoint_of(job.token)
local head = tonumber(job.delivered or 0) + 1

if A.verb == 'claim' then
  if not endpoint or endpoint.off or tonumber(job.hook_at or 0) > NOW then return {'none'} end
  local outcome = redis.call('HGET', key, 'outcome:' .. head)
  if not outcome then
    redis.call('ZREM', K.outbox(name), id)
    redis.call('ZREM', K.delivering, name .. ' ' .. id)
    return {'none'}
  end
  hold_outcome(name, id)
  redis.call('HSET', key, 'hook_at', int(NOW + DELIVERY_MS))
  return {'deliver', head, outcome, name, cjson.encode(endpoint), redis.call('HGETALL', key)}
end

local function failed(delay)
  if delay then
    redis.call('HSET', key, 'hook_at', int(NOW + delay))
    redis.call('HINCRBY', key, 'hook_tries', 1)
    redis.call('ZADD', K.outbox(name), int(NOW + delay), id)
  else
    redis.call('HDEL', key, 'hook_at', 'hook_tries')
    give_up(name, id)
  end
  endpoint.failing, endpoint.reason = endpoint.failing or NOW, A.reason
  if not endpoint.off and (A.verb == 'gone' or NOW - endpoint.failing >= A.give_up_ms) then
    endpoint.off, endpoint.since, reply = true, NOW, 'off'
  end
  keep_endpoint(name, endpoint)
end

local function delivered()
  redis.call('HSET', key, 'delivered', head)
  redis.call('HDEL', key, 'outcome:' .. head, 'hook_at', 'hook_tries')
  redis.call('ZREM', K.outbox(name), id)
  redis.call('ZREM', K.undelivered(name), id)
  if head < tonumber(job.endings) then redis.call('ZADD', K.outbox(name), int(NOW), id) end
  if endpoint.failing then
    endpoint.failing, endpoint.reason = nil, nil
    keep_endpoint(name, endpoint)
  end
end

if endpoint and head == A.n then
  local is_held = redis.call('ZREM', K.delivering, name .. ' ' .. id) == 1
  if A.verb == 'delivered' then
    delivered()
  elseif is_held then
    failed(A.verb == 'failed' and tonumber(A.delays[tonumber(job.hook_tries or 0) + 1]))
  end
end
return {reply, take_outcomes()}
