-- What a person does about the endpoint of a token's name (jobs/webhooks.py).
-- verb: "set" (url; secret: for one that has none) | "rotate" (secret: the new one) | "settle" (only the
--   newest secret holds from now on) | "remove" | "replay" (outcomes of jobs that ended since, in ms)
-- action: see note_action; "" for none
-- Reply: {"done", endpoint, JSON, outcomes that are due by this; call again until there are none} | {"absent"}
-- Twice: the same again; nothing is left to be replayed.
local A = arguments('verb', 'name', 'url', 'secret', 'since_ms:number', 'action')
local name, now = A.name, now_ms()
local endpoint = endpoint_of(name)
local moved = 0

-- Those that wait for another try are due, too, whenever their jobs ended.
local function replay()
  for key, from in pairs({[K.undelivered(name)] = int(A.since_ms), [K.outbox(name)] = '(' .. int(now)}) do
    for _, id in ipairs(redis.call('ZRANGEBYSCORE', key, from, '+inf', 'LIMIT', 0, 1000)) do
      if not redis.call('ZSCORE', K.delivering, name .. ' ' .. id) then
        redis.call('HDEL', K.job(id), 'hook_at', 'hook_tries')
        redis.call('ZREM', K.undelivered(name), id)
        redis.call('ZADD', K.outbox(name), int(now), id)
        moved = moved + 1
      end
    end
  end
end

if A.verb == 'set' then
  local secrets = endpoint and endpoint.secrets or {A.secret}
  endpoint = {url = A.url, secrets = secrets, since = now}
elseif not endpoint then
  return {'absent'}
elseif A.verb == 'rotate' then
  if endpoint.secrets[1] ~= A.secret then endpoint.secrets = {A.secret, endpoint.secrets[1]} end
elseif A.verb == 'settle' then
  endpoint.secrets = {endpoint.secrets[1]}
elseif A.verb == 'replay' then
  if endpoint.off then endpoint.since = now end
  endpoint.off, endpoint.failing, endpoint.reason = nil, nil, nil
  replay()
end
if A.verb == 'remove' then
  redis.call('HDEL', K.webhooks, name)
  redis.call('DEL', K.outbox(name), K.undelivered(name))
else
  keep_endpoint(name, endpoint)
end
if A.action ~= '' then note_action(A.action) end
return {'done', cjson.encode(endpoint), moved}
