-- Whether this is the ledger that a process knows (docs/decisions/0010): a hash of its id, when it was
-- `born`, when it was last alive (`at`) and a `counter` that only grows; and while it is refused, why.
-- `version` is that of the newest data in it (none: 1), and upgrade.lua has what is done about the rest.

-- Compare with what a process remembers: "" (nothing) or "id counter at process attempts since", where
-- `process` is "-" for one that sends nothing, and `since` "here" if it saw the ledger itself, "file" if
-- it read of it in its state file, with a "*" behind if it knows that all its numbers were sealed.
-- Reply: nil, or why nothing may be sent: "newer" | "empty" | "foreign" | "older" | "damaged" | "unsealed",
-- which it is if that was undone: by a backup of before, or by whoever forged records. The ledger
-- is marked, so that a process without a memory refuses it, too; but not where only this release is too
-- old ("newer"), nor for another id that is known from a file only: two servers may be reached under one
-- address, one after the other.
local function refused(known)
  local own = redis.pcall('HMGET', K.ledger, 'id', 'counter', 'at', 'refused', 'former', 'claimed',
    'known_at', 'born', 'version', 'upgraded')
  if own.err and not string.find(own.err, 'WRONGTYPE', 1, true) then error(own.err) end -- no rights
  if own.err then return 'damaged' end
  local own_id, own_counter, own_at, why = unpack(own)
  if tonumber(own[9] or 1) > READS then return 'newer' end -- this release cannot read it
  local id, counter, at, process, since = string.match(known, '^(%S+) (%d+) (%d+) (%S+) %d+ (%l+)')
  if not id then return why or nil end
  local found, marks
  if not own_id then
    found, marks = 'empty', true
  elseif own_id ~= id then
    if string.find(own[5] or '', id, 1, true) then return why or nil end
    found, marks = 'foreign', since == 'here' and tonumber(own[8] or 0) >= tonumber(at)
  elseif string.sub(known, -1) == '*' and tonumber(own[10] or 1) < SEALED then
    found, marks = 'unsealed', true
  elseif tonumber(own_counter) >= tonumber(counter) then
    return why or nil
  elseif tonumber(at) - tonumber(own_at) > LAPSE_MS then
    found, marks = 'older', true
  else
    redis.call('HSET', K.ledger, 'counter', counter)
    return why or nil
  end
  if marks and not why then
    redis.call('HSET', K.ledger, 'refused', found, 'refused_at', int(NOW))
  end
  local claimed = own[6] or ''
  if (marks or process ~= '-') and not string.find(claimed, id, 1, true) then
    redis.call('HSET', K.ledger, 'claimed', claimed .. id .. ' ')
  end
  if marks and tonumber(at) > tonumber(own[7] or 0) then redis.call('HSET', K.ledger, 'known_at', at) end
  return why or found
end

-- Those who cannot read the version take nothing more, and have a moment to finish what they hold.
local function raise_version(to)
  redis.call('HSET', K.ledger, 'version', to, 'raised_at', int(NOW))
end

-- Let the ledger be alive now, and be born if it is new. What the caller writes next has the version of
-- its release, which all who cannot read it refuse from now on. `id`: its new one, if it gets one for
-- certain. Returns what the caller remembers.
local function grow(id)
  if redis.call('HSETNX', K.ledger, 'id', id or string.sub(redis.sha1hex(int(now_us())), 1, 16)) == 1
      and redis.call('HSETNX', K.ledger, 'born', int(NOW)) == 1 then
    local used = fields(K.sweeps, 'at', 'events')
    if not used.at and not used.events and redis.call('EXISTS', K.totals, K.batches) == 0 then
      redis.call('HSET', K.ledger, 'upgraded', WRITES) -- there is nothing older in it
    end
  end
  local own = fields(K.ledger, 'id', 'at', 'version')
  if tonumber(own.version or 1) < WRITES then raise_version(WRITES) end
  local at = int(math.max(NOW, tonumber(own.at or 0))) -- or the clock was set back
  redis.call('HSET', K.ledger, 'at', at)
  return own.id .. ' ' .. redis.call('HINCRBY', K.ledger, 'counter', 1) .. ' ' .. at
end

-- Each process counts its attempts in the ledger, where nobody else counts them: if there are fewer
-- than it made, this ledger has forgotten some. Returns how many it knows; nil if that is all.
local function attempts_known(known)
  local process, made = string.match(known, ' (%S+) (%d+) %S+$')
  if not process or made == '0' then return nil end
  local has = tonumber(redis.call('GET', K.attempts(process)) or 0)
  return has < tonumber(made) and has or nil
end

-- Keep the count of a process that has nothing to send for long: it would look forgotten.
local function keep_attempts(known)
  local process = string.match(known, ' (%S+) %d+ %S+$')
  if process then redis.call('PEXPIRE', K.attempts(process), DAY_MS) end
end

local function count_attempt(process)
  if process == '' then return 0 end
  local made = redis.call('INCR', K.attempts(process))
  redis.call('PEXPIRE', K.attempts(process), DAY_MS)
  return made
end

-- Whether an attempt that this ledger has forgotten may have sent a code to the job's number.
local function may_be_forgotten(cc, num, batch, created)
  local accepted = tonumber(redis.call('HGET', K.ledger, 'suspect_until') or 0)
  local lost = tonumber(redis.call('HGET', number_key(cc, num), 'lost_until') or 0)
  if accepted == 0 and lost == 0 then return false end
  if batch then created = redis.call('HGET', K.batch(batch), 'created') end
  return tonumber(created or 0) < math.max(accepted, lost)
end
