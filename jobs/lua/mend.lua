-- Put a part of the ledger right by what is known of its jobs. Each verb is one step, atomic: what
-- goes on meanwhile finds it as it was, or right.
-- verb, and the parts that it takes:
--   "batch": id, and of one whose record is lost: digest of its content as far as known (""), cells of its
--     first row ("0": not known), its `expires_at` ("": none, "lost": its rows are sealed for another)
--   "events": ids of events that are not final
--   "letters": ids of all dead letters, the oldest first
--   "indexes": ids of all batches
--   "numbers": cc, num, codes that it got, when the last (ms), cc, …
--   "outcomes": ids of jobs with an outcome that was not delivered, and "batch:<id>" of all batches
--   "totals": ids that were not final when the others were counted, "", then state, jobs, …
--   "end": what does not fit even now
-- Reply: what was done, in words
-- Twice: the second finds nothing to do.
local A = arguments('verb', 'parts:rest')
local parts = A.parts
if refused('') == 'newer' then return {} end

-- When a sweep is to check a job again that no index names.
local function again_at(job)
  if job.state == 'parked' then return tonumber(job.due) or NOW end
  return NOW + (job.state == 'queued' and GRACE_MS or LEASE_MS)
end

-- Make a batch's lost record anew from its rows. Whether a person had paused it, and how fast it was to go,
-- is not known any more. Without the expiry that its rows are sealed for none of them could be sent: it is
-- not resumed then. Returns its fields, or nil if its rows are lost, too.
local function restore_batch(batch, digest, width, term, rows)
  if rows == 0 then
    redis.call('LREM', K.running, 0, batch)
    note_damage('batch ' .. batch .. ' is lost, with its rows: check its file for numbers that got a code, '
      .. 'and submit it again')
    return nil
  end
  local header = {}
  for i = 1, width do header[i] = 'column ' .. i end
  redis.call('HSET', K.batch(batch), 'state', BATCH.PAUSED, 'digest', digest, 'name', batch,
    'header', width > 0 and cjson.encode(header) or '[]', 'imported', 1,
    'blocks', redis.call('LLEN', K.cells(batch)),
    'created', redis.call('ZSCORE', K.batches, batch) or int(NOW))
  local made = 'the record of batch ' .. batch .. ' was lost: made anew from its rows and paused, '
    .. 'without its names of columns, pace and '
  if term == 'lost' then
    redis.call('HSET', K.batch(batch), 'expiry_lost', 1)
    note_damage(made .. 'time limit, for which its rows are sealed: cancel it, and submit the rest of its '
      .. 'file again')
  else
    if term ~= '' then redis.call('HSET', K.batch(batch), 'expires_at', term) end
    note_damage(made .. 'start: resume it')
  end
  return {state = BATCH.PAUSED, total = -1, cursor = 0, digest = digest}
end

local function members(key)
  local set = {}
  for _, id in ipairs(redis.call('SMEMBERS', key)) do set[id] = true end
  return set
end

local function is_due(id)
  return redis.call('ZSCORE', K.due('batch'), id) or redis.call('ZSCORE', K.due('aside'), id)
end

local function mend_batch(batch, digest, width, term)
  local rows = redis.call('LLEN', K.rows(batch))
  local b = fields(K.batch(batch), 'state', 'total', 'cursor', 'rows_lost', 'digest', 'blocks')
  if not b.state and not term then return end -- lost just now: the next check finds that
  if not b.state then b = restore_batch(batch, digest, tonumber(width), term, rows) end
  if not b then return end
  local blocks = redis.call('LLEN', K.cells(batch))
  if blocks ~= tonumber(b.blocks or 0) then redis.call('HSET', K.batch(batch), 'blocks', blocks) end
  if blocks < tonumber(b.blocks or 0) then
    note_damage('the cells of some rows of batch ' .. batch .. ' are lost: they are sent, but its results '
      .. 'lack these columns')
  end
  local is_over = BATCH_OVER[b.state]
  local keeps_rows = rows == tonumber(b.total) or b.rows_lost
  if rows < tonumber(b.total) and not b.rows_lost then
    redis.call('HSET', K.batch(batch), 'rows_lost', b.total - rows)
    note_damage(b.total - rows .. ' rows of batch ' .. batch .. ' are lost: '
      .. (is_over and 'its results lack them' or 'submit its file again, so that the rest is sent'))
    if is_over then keeps_rows = true else redis.call('HDEL', K.batch(batch), 'imported') end
  end

  local tally, old, missing = {possible_duplicate = 0}, {}, 0
  local letters, put_back, known, left = 0, 0, {}, {dead = 0, unknown = 0}
  local open, stopped = members(K.open(batch)), members(K.stopped(batch))
  local function count(name) tally[name] = (tally[name] or 0) + 1 end

  -- Count a row's job, and have the indexes name it if it still waits. Returns whether there
  -- is one.
  local function recount(id)
    known[id] = true
    local job = fields(K.job(id), 'state', 'dup', 'code', 'replaced_by', 'dropped', 'doubt', 'due')
    local is_named = open[id] or stopped[id]
    if not FINAL[job.state] then is_named = is_named or is_due(id) end
    if not job.state and not is_named then return false end
    if not job.state
        or not FINAL[job.state] and not is_named and redis.call('SISMEMBER', K.held, id) == 0 then
      -- its record is gone, or was set back: it had ended, as no index names it any more
      end_lost_job(id, 'batch')
      job = fields(K.job(id), 'state', 'dup', 'code')
    end
    if job.dup == '1' then count('possible_duplicate') end
    if job.replaced_by then return recount(job.replaced_by) end
    count(job.state)
    if FINAL[job.state] then
      local code = job.code or ''
      if is_code_counted(job.state, code) then count('code:' .. code) end
      if FOR_A_PERSON[job.state] and job.dropped then
        left[job.state] = left[job.state] + 1
      elseif FOR_A_PERSON[job.state] then
        letters = letters + 1
      end
      if is_named then unindex(id, batch, 'batch') end
      redis.call('SREM', K.open(batch), id)
      return true
    end
    redis.call('SADD', K.open(batch), id)
    redis.call(IN_FLIGHT[job.state] and 'SADD' or 'SREM', K.held, id)
    if stopped[id] and (job.state ~= 'parked' or is_due(id)) then
      redis.call('SREM', K.stopped(batch), id)
      stopped[id] = nil
    end
    if not stopped[id] and not is_due(id) then
      put_back = put_back + 1
      local is_aside = job.state == 'parked' and not job.doubt
      if is_aside and b.state == BATCH.PAUSED then
        redis.call('SADD', K.stopped(batch), id)
      else
        schedule(id, is_aside and 'aside' or 'batch', again_at(job))
      end
    end
    return true
  end

  local counts = redis.call('HGETALL', K.counts(batch))
  for i = 1, #counts, 2 do old[counts[i]] = tonumber(counts[i + 1]) end
  local cursor, chunk, texts = tonumber(b.cursor), nil, nil
  local function is_accepted(number)
    local first = math.floor((number - 1) / 1000) * 1000
    if first ~= chunk then chunk, texts = first, redis.call('LRANGE', K.rows(batch), first, first + 999) end
    local text = texts[number - first]
    return text and string.byte(text) ~= 9
  end
  for number = 1, cursor do
    if not recount(batch .. '-' .. number) and is_accepted(number) then missing = missing + 1 end
  end
  -- where the batch was set back, the rows behind its cursor were fed already
  local behind = cursor + 1
  while behind <= rows and (not is_accepted(behind) or recount(batch .. '-' .. behind)) do
    if is_accepted(behind) then cursor = behind end
    behind = behind + 1
  end
  local accepted = 0
  if not keeps_rows then
    for number = 1, rows do
      if is_accepted(number) then accepted = accepted + 1 end
    end
  end
  for id in pairs(open) do
    if not known[id] then recount(id) end
  end
  -- of jobs that ended so long ago that they were forgotten only the counts know
  for state in pairs(FINAL) do
    local more = math.min(missing, math.max(0, (old[state] or 0) - (tally[state] or 0)))
    if more > 0 then
      tally[state], missing = (tally[state] or 0) + more, missing - more
    end
  end

  local fed, flat, is_new = 0, {}, false
  for name, n in pairs(tally) do
    if n > 0 then flat[#flat + 1], flat[#flat + 2] = name, n end
    if n ~= (old[name] or 0) then is_new = true end
    if FINAL[name] or OPEN[name] then fed = fed + n end
  end
  for name, n in pairs(old) do
    if n ~= 0 and not tally[name] then is_new = true end
  end
  local kept_ms = redis.call('PTTL', K.batch(batch))
  if is_new then
    redis.call('DEL', K.counts(batch))
    if #flat > 0 then redis.call('HSET', K.counts(batch), unpack(flat)) end
    note_damage('the jobs of batch ' .. batch .. ' were counted anew')
  end
  if put_back > 0 then
    note_damage(put_back .. ' waiting jobs of batch ' .. batch .. ' were forgotten: they go on')
  end
  redis.call('HSET', K.batch(batch), 'fed', fed, 'letters', letters, 'cursor', cursor,
    'left_dead', left.dead, 'left_unknown', left.unknown)
  if not keeps_rows then
    redis.call('HSET', K.batch(batch), 'total', rows, 'accepted', accepted, 'rejected', rows - accepted)
  end
  if b.digest ~= '' then redis.call('SET', K.content(b.digest), batch, 'NX') end
  if redis.call('SCARD', K.open(batch)) > 0 and reopen_batch(batch) then kept_ms = -1 end
  if kept_ms > 0 then
    keep_batch(batch, kept_ms)
  else
    end_batch_if_done(batch)
  end
  redis.call('LREM', K.running, 0, batch)
  if redis.call('HGET', K.batch(batch), 'state') == BATCH.RUNNING then
    redis.call('RPUSH', K.running, batch)
  end
end

-- Events that no index names: their index was lost, or a record was set back to before its end.
local function mend_events()
  local put_back = 0
  for i = 1, #parts do
    local id = parts[i]
    local job = fields(K.job(id), 'state', 'lane', 'cc', 'num', 'created', 'due', 'dup')
    if job.state and not FINAL[job.state] and not redis.call('ZSCORE', K.due('event'), id) then
      local number = fields(number_key(job.cc, job.num), 'job', 'sent')
      local is_sent = number.sent and tonumber(number.sent) >= tonumber(job.created)
      if is_sent and number.job == id then
        end_lost_job(id, 'event')
      else
        if is_sent and not job.dup then flag_duplicate(id) end
        schedule(id, 'event', again_at(job))
        put_back = put_back + 1
      end
    end
  end
  if put_back > 0 then note_damage(put_back .. ' waiting events were forgotten: they go on') end
end

local function mend_letters()
  local old, is_in, list = redis.call('LRANGE', K.dead, 0, -1), {}, {}
  local function take(id)
    local job = fields(K.job(id), 'state', 'dropped', 'replaced_by')
    if is_in[id] or not FOR_A_PERSON[job.state] or job.dropped or job.replaced_by then return end
    is_in[id], list[#list + 1] = true, id
  end
  for _, id in ipairs(old) do take(id) end
  local kept = #list
  for i = 1, #parts do take(parts[i]) end
  if kept < #old or kept < #list then
    note_damage('the list of dead letters was made anew: ' .. #list - kept .. ' had fallen out, '
      .. #old - kept .. ' entries were no dead letters')
  end
  redis.call('DEL', K.dead)
  for _, id in ipairs(list) do redis.call('RPUSH', K.dead, id) end
  count_letters()
end

-- Names of jobs that have ended, or are worked on no more.
local function mend_indexes()
  for _, batch in ipairs(parts) do
    local created = redis.call('HGET', K.batch(batch), 'created')
    if created then redis.call('ZADD', K.batches, 'NX', created, batch) end
  end
  for _, lane in ipairs({'event', 'batch', 'aside'}) do
    for _, id in ipairs(redis.call('ZRANGE', K.due(lane), 0, -1)) do
      if FINAL[redis.call('HGET', K.job(id), 'state')] then redis.call('ZREM', K.due(lane), id) end
    end
  end
  for _, id in ipairs(redis.call('SMEMBERS', K.held)) do
    if not IN_FLIGHT[redis.call('HGET', K.job(id), 'state')] then redis.call('SREM', K.held, id) end
  end
  local turns = {}
  for _, batch in ipairs(redis.call('LRANGE', K.running, 0, -1)) do
    if turns[batch] then redis.call('LREM', K.running, 1, batch) end
    turns[batch] = true
  end
  redis.call('HSET', K.sweeps, 'events', redis.call('ZCARD', K.due('event')))
end

-- What numbers remember of the codes that they got, where they remember less than the jobs.
local function mend_numbers()
  for i = 1, #parts, 4 do
    local key, codes, sent = number_key(parts[i], parts[i + 1]), tonumber(parts[i + 2]), parts[i + 3]
    local keep_ms = sent + RETENTION_MS - NOW
    if codes > (tonumber(redis.call('HGET', key, 'codes')) or 0) and keep_ms > 0 then
      redis.call('HSET', key, 'codes', codes, 'sent', sent)
      if redis.call('PTTL', key) < keep_ms then redis.call('PEXPIRE', key, int(keep_ms)) end
    end
  end
end

-- Outcomes that no index names, of endpoints that there are: those of a removed one count as delivered.
local function mend_outcomes()
  local put_back = 0
  for _, id in ipairs(parts) do
    local key = subject_key(id)
    local job = fields(key, 'token', 'delivered', 'finished')
    local name, head = job.token or '', tonumber(job.delivered or 0) + 1
    local is_kept = job.finished and tonumber(job.finished) > NOW - RETENTION_MS
    if is_kept and redis.call('HGET', K.webhooks, name)
        and redis.call('HGET', key, 'outcome:' .. head)
        and not redis.call('ZSCORE', K.outbox(name), id)
        and not redis.call('ZSCORE', K.undelivered(name), id) then
      redis.call('ZADD', K.outbox(name), int(NOW), id)
      put_back = put_back + 1
    end
  end
  if put_back > 0 then note_damage(put_back .. ' outcomes were forgotten: they are delivered') end
end

local function mend_totals()
  local counts, ended, i, is_new = {}, {}, 1, false
  while parts[i] ~= '' do
    local state = redis.call('HGET', K.job(parts[i]), 'state')
    if FINAL[state] then ended[state] = (ended[state] or 0) + 1 end
    i = i + 1
  end
  for j = i + 1, #parts, 2 do counts[parts[j]] = tonumber(parts[j + 1]) end
  for state, n in pairs(ended) do counts[state] = (counts[state] or 0) + n end
  for state, n in pairs(counts) do
    if n > (tonumber(redis.call('HGET', K.totals, state)) or 0) then
      redis.call('HSET', K.totals, state, n)
      is_new = true
    end
  end
  redis.call('HDEL', K.sweeps, 'ended')
  if is_new then note_damage('the totals were lost: counted anew from the jobs that are kept') end
end

local function end_mending()
  redis.call('HDEL', K.sweeps, 'mending', 'unmended')
  if parts[1] ~= '' then redis.call('HSET', K.sweeps, 'unmended', parts[1]) end
end

local VERBS = {batch = mend_batch, events = mend_events, letters = mend_letters, indexes = mend_indexes,
  numbers = mend_numbers, outcomes = mend_outcomes, totals = mend_totals, ['end'] = end_mending}
VERBS[A.verb](unpack(parts, 1, 4))
return noted
