-- What a person does about the endpoint of a token's name (jobs/webhooks.py).
-- verb: "set" (url; secret: for one that has none) | "rotate" (secret: the new one) | "settle" (only the
--   newest secret holds from now on) | "remove" (and forget its outcomes) | "replay" (outcomes of jobs that
--   ended since, in ms)
-- action: see note_action; "" for none
-- Reply: {"done", endpoint, JSON, outcomes that are due, or forgotten, by this; call again until there are
--   none} | {"absent"}
-- Twice: the same again; nothing is left to be replayed or forgotten.
local A = arguments('verb', 'name', 'url?', 'secret?', 'since_ms?:number', 'action')
local name = A.name
local endpoint = endpoint_of(name)
local moved = 0

-- Those that wait for another try are due, too, whenever their jobs ended.
local function replay()
  for key, from in pairs({[K.undelivered(name)] = int(A.since_ms), [K.outbox(name)] = '(' .. int(NOW)}) do
    for _, id in ipairs(redis.call('ZRANGEBYSCORE', key, from, '+inf', 'LIMIT', 0, 1000)) do
      if not redis.call('ZSCORE', K.delivering, name .. ' ' .. id) then
        redis.call('HDEL', subject_key(id), 'hook_at', 'hook_tries')
        redis.call('ZREM', K.undelivered(name), id)
        redis.call('ZADD', K.outbox(name), int(NOW), id)
        moved = moved + 1
      end
    end
  end
end

-- Forget what its endpoint has not received of a job: another endpoint of this name must not learn of it.
local function forget_outcomes(id)
  local key = subject_key(id)
  local job = fields(key, 'delivered', 'endings')
  for n = tonumber(job.delivered or 0) + 1, tonumber(job.endings or 0) do
    redis.call('HDEL', key, 'outcome:' .. n)
  end
  if job.endings then redis.call('HSET', key, 'delivered', job.endings) end
  redis.call('HDEL', key, 'hook_at', 'hook_tries')
end

local function forget_all()
  for _, key in ipairs({K.outbox(name), K.undelivered(name)}) do
    for _, id in ipairs(redis.call('ZRANGE', key, 0, 999)) do
      forget_outcomes(id)
      redis.call('ZREM', key, id)
      redis.call('ZREM', K.delivering, name .. ' ' .. id)
      moved = moved + 1
    end
  end
end

if A.verb == 'set' then
  local secrets = endpoint and endpoint.secrets or {A.secret}
  endpoint = {url = A.url, secrets = secrets, since = NOW}
elseif not endpoint then
  return {'absent'}
elseif A.verb == 'rotate' then
  if endpoint.secrets[1] ~= A.secret then endpoint.secrets = {A.secret, endpoint.secrets[1]} end
elseif A.verb == 'settle' then
  endpoint.secrets = {endpoint.secrets[1]}
elseif A.verb == 'replay' then
  if endpoint.off then endpoint.since = NOW end
  endpoint.off, endpoint.failing, endpoint.reason = nil, nil, nil
  replay()
end
if A.verb == 'remove' then
  forget_all()
  if moved == 0 then redis.call('HDEL', K.webhooks, name) end
else
  keep_endpoint(name, endpoint)
end
if A.action ~= '' then note_action(A.action) end
return {'done', cjson.encode(endpoint), moved}
