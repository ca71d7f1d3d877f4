-- Show that a worker lives, and have the jobs of killed workers be due at once.
--
-- Each process holds one connection to Redis for nothing but this: a subscription to a channel of its
-- own. When the process dies its kernel closes it, and while it is only paused the connection stays. A
-- process counts as killed if that connection was open on this very server (a restarted one, or
-- another primary, has none of the old), is closed now, and there was no sign of life for GONE_MS since
-- it was first found closed: whoever lives and has lost a connection beats meanwhile.
-- Where the server or the user's rights do not allow to ask, leases run out by themselves.
--
-- entry: of K.workers: "name/process.fingerprint"; a lease's token begins with its process
-- silent_ms: for so long a part of the worker has stood still
-- Reply: {now, K.workers as a flat list, {entry of a killed worker, how many jobs of it are due now, …}}
-- Twice: the second finds nobody killed.
local A = arguments('entry', 'silent_ms:number')
local GONE_MS = 1500 -- workers beat every second
local LOOKED_AT = 10000 -- jobs of a lane, for each killed process; 20 ms
redis.call('HSET', K.workers, A.entry, int(NOW - A.silent_ms))
local workers = redis.call('HGETALL', K.workers)

local function ask(...)
  local reply = redis.pcall(...)
  return not (type(reply) == 'table' and reply.err) and reply or nil
end

-- Those whose leases may still run. Who was silent for a day does not come back.
local entries, beats, channels = {}, {}, {}
for i = 1, #workers, 2 do
  local process, beat = string.match(workers[i], '/(%x+)[^/]*$'), workers[i + 1]
  local silent_ms = NOW - (tonumber(beat) or 0)
  if silent_ms > DAY_MS then redis.call('HDEL', K.workers, workers[i]) end
  if process and silent_ms <= LEASE_MS + GONE_MS then
    entries[process], beats[process] = workers[i], beat
    channels[#channels + 1] = K.connections .. ':' .. process
  end
end

local before, known = {}, redis.call('HGETALL', K.connections)
for i = 1, #known, 2 do
  before[known[i]] = known[i + 1]
  if not beats[known[i]] then redis.call('HDEL', K.connections, known[i]) end
end

-- The messages in the queues, where they are few: what a killed worker had taken and not claimed yet is
-- missed now, too, and not only after a while.
local function waiting_messages()
  local messages = {}
  for _, queue in ipairs({K.event_queue, K.batch_queue}) do
    if redis.call('LLEN', queue) > 200 then return nil end
    messages[#messages + 1] = table.concat(redis.call('LRANGE', queue, 0, -1))
  end
  return table.concat(messages)
end

local function end_leases(process)
  local ended, messages = 0, waiting_messages()
  for _, lane in ipairs({'event', 'batch'}) do
    local held = redis.call('ZRANGEBYSCORE', K.due(lane), int(NOW + 1), int(NOW + LEASE_MS), 'LIMIT',
      0, LOOKED_AT)
    for _, id in ipairs(held) do
      -- a sweep sees to records that are broken
      local lease = ask('HGET', K.job(id), 'lease')
      if lease and string.sub(lease, 1, #process) == process then
        redis.call('HSET', K.job(id), 'spared', lease) -- nobody is left who could renew it
        schedule(id, lane, NOW)
        ended = ended + 1
      elseif messages and not string.find(messages, '"' .. id .. '"', 1, true)
          and ask('HGET', K.job(id), 'state') == 'queued' then
        redis.call('HSET', K.job(id), 'published', 0) -- so that the sweep misses it
        schedule(id, lane, NOW)
      end
    end
  end
  return ended
end

local killed = {}
local run = string.match(ask('INFO', 'server') or '', 'run_id:(%x+)')
local open = run and ask('PUBSUB', 'NUMSUB', unpack(channels)) or {}
for i = 1, #open, 2 do
  local process = string.sub(open[i], #K.connections + 2)
  local last, beat = before[process] or '', beats[process]
  local since, beat_then = string.match(last, '^' .. run .. ' (%d+) (%d+)$')
  if open[i + 1] > 0 then
    if last ~= run then redis.call('HSET', K.connections, process, run) end
  elseif last == run or since and beat ~= beat_then then
    redis.call('HSET', K.connections, process, run .. ' ' .. int(NOW) .. ' ' .. beat)
  elseif since and NOW - tonumber(since) >= GONE_MS then
    redis.call('HDEL', K.connections, process)
    killed[#killed + 1] = entries[process]
    killed[#killed + 1] = end_leases(process)
  elseif not since then
    redis.call('HDEL', K.connections, process)
  end
end
return {NOW, workers, killed}
