-- Check that the ledger's keys fit together: one that was deleted or set back does not fit the
-- others. It costs about 9 µs for each batch that is kept; the jobs themselves are left to `mend`.
-- every_ms: reply nothing if somebody checked within that; 0: only check, and write nothing
-- Reply: what does not fit: "batch <id>", "batches", "running", "held", "due", "events", "dead",
--   "totals", "vault"; nothing where mending is under way, or did not help before
-- Keys of a wrong type are moved aside, as all scripts do it.
local A = arguments('every_ms:number')
local every_ms = A.every_ms
if refused('') == 'newer' then return {} end
local last = fields(K.sweeps, 'checked', 'mending', 'unmended', 'events', 'unknown', 'ended', 'newest')

local function is_near(time, before, after)
  return time and NOW - tonumber(time) < before and tonumber(time) - NOW < after
end
if every_ms > 0 then
  if is_near(last.checked, every_ms, every_ms) or is_near(last.mending, 0, 60000) then return {} end
  redis.call('HSET', K.sweeps, 'checked', int(NOW))
end

for command, keys in pairs({
  HLEN = {K.watermark, K.account, K.misses, K.pace, K.pace_ring, K.workers, K.connections,
    K.refused, K.quotas, K.spending, K.tokens, K.tokens_used, K.users, K.webhooks, K.vault, K.vault_unknown},
  LLEN = {K.damage, K.quarantine, K.actions, K.event_queue, K.batch_queue, K.webhook_queue},
  STRLEN = {K.doctor},
  ZCARD = {K.delivering},
}) do
  for _, key in ipairs(keys) do redis.call(command, key) end
end

local found = {}
local function misfit(what) found[#found + 1] = what end

local function sum(key)
  local total = 0
  for _, n in ipairs(redis.call('HVALS', key)) do total = total + (tonumber(n) or 0) end
  return total
end

-- Jobs of a batch by its counts: all that were fed, those that are not final, those in flight.
local function counted(batch)
  local fed, open, held = 0, 0, 0
  local counts = redis.call('HGETALL', K.counts(batch))
  for i = 1, #counts, 2 do
    local name, n = counts[i], tonumber(counts[i + 1])
    if name ~= 'possible_duplicate' and string.sub(name, 1, 5) ~= 'code:' then
      fed = fed + n
      if not FINAL[name] then open = open + n end
      if IN_FLIGHT[name] then held = held + n end
    end
  end
  return fed, open, held
end

-- every ledger with a number has it
if redis.call('EXISTS', K.vault) == 0 and redis.call('EXISTS', K.totals) == 1 then misfit('vault') end

local turns, listed = {}, {}
for _, batch in ipairs(redis.call('LRANGE', K.running, 0, -1)) do
  if turns[batch] then misfit('running') end
  turns[batch] = true
end

local all_open, all_held, all_stopped = 0, 0, 0
local function fits(batch)
  local b = fields(K.batch(batch), 'state', 'total', 'cursor', 'imported', 'fed', 'digest', 'rows_lost',
    'blocks')
  local rows, stopped = redis.call('LLEN', K.rows(batch)), redis.call('SCARD', K.stopped(batch))
  local open_now = redis.call('SCARD', K.open(batch))
  local fed, open, held = counted(batch)
  all_open, all_held, all_stopped = all_open + open_now, all_held + held, all_stopped + stopped
  if not b.state then return rows + fed + open_now == 0 end -- its time of keeping is over
  local waits = b.imported ~= '1' or b.cursor ~= b.total or stopped > 0
  return (rows == tonumber(b.total) or b.rows_lost)
    and redis.call('LLEN', K.cells(batch)) == tonumber(b.blocks or 0)
    and fed == tonumber(b.fed) and open == open_now
    and (b.state ~= BATCH.RUNNING or (waits and turns[batch] or not waits and open > 0))
    and (b.state ~= BATCH.DONE or open == 0)
    and (b.digest == '' or redis.call('STRLEN', K.content(b.digest)) > 0)
end
local batches = redis.call('ZREVRANGE', K.batches, 0, -1)
for _, batch in ipairs(batches) do
  listed[batch] = true
  if not fits(batch) then misfit('batch ' .. batch) end
end
for batch in pairs(turns) do
  if not listed[batch] then misfit('batches') end
end
if last.newest and not listed[last.newest] and redis.call('EXISTS', K.batch(last.newest)) == 1 then
  misfit('batches')
elseif every_ms > 0 and batches[1] and batches[1] ~= last.newest then
  redis.call('HSET', K.sweeps, 'newest', batches[1])
end

if redis.call('SCARD', K.held) ~= all_held then misfit('held') end
local waiting = redis.call('ZCARD', K.due('batch')) + redis.call('ZCARD', K.due('aside'))
if waiting + all_stopped ~= all_open then misfit('due') end
if redis.call('ZCARD', K.due('event')) ~= (tonumber(last.events) or 0) then misfit('events') end
if redis.call('LLEN', K.dead) ~= sum(K.dead_codes)
    or sum(K.dead_unknown) ~= (tonumber(last.unknown) or 0) then
  misfit('dead')
end

-- The number of jobs that ended, but for those that a person may try again, never falls.
local ended, totals = 0, fields(K.totals, 'sent', 'sent_inferred', 'cancelled', 'expired')
for _, n in pairs(totals) do ended = ended + tonumber(n) end
if ended < (tonumber(last.ended) or 0) then
  misfit('totals')
elseif every_ms > 0 then
  redis.call('HSET', K.sweeps, 'ended', int(ended))
end

if every_ms > 0 then
  local all = table.concat(found, ' ')
  if all == '' then
    redis.call('HDEL', K.sweeps, 'unmended')
  elseif all == last.unmended then
    return {}
  else
    redis.call('HSET', K.sweeps, 'mending', int(NOW + 30000))
  end
end
return found
