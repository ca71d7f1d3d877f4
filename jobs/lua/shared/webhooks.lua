-- Webhooks: what became of a job, on its way back to the backend whose token asked for it. An endpoint
-- belongs to the name of the tokens, and `sendcode:webhooks` has it as JSON:
--   url, secrets (the newest first), off: whether it is
--   switched off; since: when it was switched on or off; failing: since when no try succeeded; reason: why
--
-- A job's hash has, of its outcomes:
--   token: the name of the token that asked for the job; key: its idempotency key
--   endings: how many there were; outcome:<n>: the n-th, JSON, until it is delivered
--   delivered: how many are; so the next is outcome:<delivered + 1>, and no other is tried before it
--   hook_tries: how often that one was tried; hook_at: not again before
-- A batch that was submitted with a token has the same fields. In outboxes and messages it is "batch:<id>".

-- The hash of what an id in an outbox names.
local function subject_key(id)
  local batch = string.match(id, '^batch:(.*)$')
  return batch and K.batch(batch) or K.job(id)
end

local function read_endpoint(name, text)
  local is_json, endpoint = pcall(cjson.decode, text)
  if is_json and type(endpoint) == 'table' then return endpoint end
  redis.call('HDEL', K.webhooks, name)
  note_damage('the webhook of ' .. name .. ' could not be read and is gone: make it anew')
  return nil
end

local function endpoint_of(name)
  local text = name and redis.call('HGET', K.webhooks, name)
  return text and read_endpoint(name, text) or nil
end

local function keep_endpoint(name, endpoint)
  redis.call('HSET', K.webhooks, name, cjson.encode(endpoint))
end

-- Note how a job or a batch ended, if it has an endpoint. Either may end twice: by a person's requeue.
local function note_outcome(id, state)
  local key = subject_key(id)
  local name = redis.call('HGET', key, 'token')
  if not name or not redis.call('HGET', K.webhooks, name) then return end
  local job = fields(key, 'code', 'request_id', 'attempts', 'dup')
  redis.call('HSET', key, 'outcome:' .. redis.call('HINCRBY', key, 'endings', 1), cjson.encode({
    state = state, code = job.code or '', request_id = job.request_id or '', at_ms = NOW,
    attempts = tonumber(job.attempts), possible_duplicate = job.dup == '1',
  }))
  redis.call('ZREM', K.undelivered(name), id)
  redis.call('ZADD', K.outbox(name), 'NX', int(NOW), id)
end

-- Let an outcome rest until a person has it tried again, or it is no longer kept.
local function give_up(name, id)
  redis.call('ZREM', K.outbox(name), id)
  redis.call('ZREM', K.delivering, name .. ' ' .. id)
  local finished = redis.call('HGET', subject_key(id), 'finished')
  if finished then redis.call('ZADD', K.undelivered(name), finished, id) end
end

-- Nobody else takes this job's outcome for so long as a message or a call of the endpoint may last.
local function hold_outcome(name, id)
  redis.call('ZADD', K.outbox(name), int(NOW + DELIVERY_MS), id)
  redis.call('ZADD', K.delivering, int(NOW + DELIVERY_MS), name .. ' ' .. id)
end

-- Outcomes to be published now: ids of jobs. What is on its way is bounded, for each endpoint and for
-- all: one that never answers must not keep the others waiting, nor fill the queue.
local function take_outcomes()
  local found, names = {}, redis.call('HGETALL', K.webhooks)
  local count = #names / 2
  if count == 0 or redis.call('LLEN', K.webhook_queue) >= MOST_DELIVERIES then return found end
  for _, gone in ipairs(redis.call('ZRANGEBYSCORE', K.delivering, '-inf', int(NOW))) do
    redis.call('ZREM', K.delivering, gone)
  end
  local busy, room = {}, MOST_DELIVERIES
  for _, member in ipairs(redis.call('ZRANGE', K.delivering, 0, -1)) do
    local name = string.match(member, '^%S*')
    busy[name], room = (busy[name] or 0) + 1, room - 1
  end
  for i = 0, count - 1 do -- another one comes first each time
    local at = 2 * ((i + NOW) % count) + 1
    local name = names[at]
    local endpoint = read_endpoint(name, names[at + 1])
    local is_on = endpoint and not endpoint.off
    local most = is_on and math.max(0, math.min(room, MOST_PER_ENDPOINT - (busy[name] or 0))) or 100
    local due = is_on and int(NOW) or '+inf'
    for _, id in ipairs(redis.call('ZRANGEBYSCORE', K.outbox(name), '-inf', due, 'LIMIT', 0, most)) do
      if redis.call('HGET', subject_key(id), 'token') ~= name then
        redis.call('ZREM', K.outbox(name), id) -- its record is gone
      elseif is_on then
        hold_outcome(name, id)
        found[#found + 1], room = id, room - 1
      else
        give_up(name, id)
      end
    end
    local old = redis.call('ZRANGEBYSCORE', K.undelivered(name), '-inf', int(NOW - RETENTION_MS), 'LIMIT', 0, 100)
    for _, id in ipairs(old) do redis.call('ZREM', K.undelivered(name), id) end
  end
  return found
end
