-- Bounds on spending (jobs/quotas.py). A quota's record is a hash: number of a bucket, a sixtieth of the
-- span, -> codes counted in it. They count until the whole bucket is a span old.
local BUCKETS = 60

-- Bounds of batches as text: "rule,count,span_ms,is_watched;…" of the rules country and budget.
local BOUND = '(%l+),(%d+),(%d+),(%d);'

-- Of several such texts, for each rule and span: a bound that refuses before one that only watches, and the
-- lowest. Those of the first text come first.
local function strictest(texts)
  local found, names = {}, {}
  for rule, count, span, watched in string.gmatch(table.concat(texts), BOUND) do
    local name = rule .. ',' .. span
    local other = found[name]
    if not other then names[#names + 1] = name end
    if not other or watched < other.watched
        or watched == other.watched and tonumber(count) < tonumber(other.count) then
      found[name] = {count = count, watched = watched,
        text = table.concat({rule, count, span, watched}, ',') .. ';'}
    end
  end
  for i, name in ipairs(names) do names[i] = found[name].text end
  return table.concat(names)
end

-- The bounds that hold for batches, whichever worker sweeps; and whether they are stricter than the caller's.
-- Each worker tells its own. They hold for a minute after that, so that a worker that lacks one lifts it not
-- even while others restart.
local BOUNDS_HOLD_MS = 60000
local function bounds_of_all()
  redis.call('HSET', K.spending, OWN_BOUNDS == '' and 'off' or OWN_BOUNDS, int(NOW))
  redis.call('PEXPIRE', K.spending, BOUNDS_HOLD_MS)
  local stored, texts = redis.call('HGETALL', K.spending), {OWN_BOUNDS}
  for i = 1, #stored, 2 do
    local at = tonumber(stored[i + 1]) or 0
    if at <= NOW - BOUNDS_HOLD_MS then
      redis.call('HDEL', K.spending, stored[i])
    else
      texts[#texts + 1] = stored[i]
      if at > NOW then redis.call('HSET', K.spending, stored[i], int(NOW)) end -- the clock was set back
    end
  end
  local bounds = strictest(texts)
  return bounds, bounds ~= strictest({OWN_BOUNDS})
end

-- The quotas of a batch's row, for `spend`.
local function bounds_of(bounds, cc)
  local quotas = {}
  for rule, count, span, watched in string.gmatch(bounds, BOUND) do
    for _, part in ipairs({rule, rule == 'country' and cc or 'all', count, span, watched}) do
      quotas[#quotas + 1] = part
    end
  end
  return quotas
end

-- When one more code fits into a quota, ms; nil if one fits now.
local function fits_at(key, count, width)
  local first, total, found = math.floor(NOW / width) - BUCKETS, 0, {}
  local counts = redis.call('HGETALL', key)
  for i = 1, #counts, 2 do
    local bucket, codes = tonumber(counts[i]), tonumber(counts[i + 1])
    if bucket and codes and bucket >= first then
      found[#found + 1] = {bucket, codes}
      total = total + codes
    else
      redis.call('HDEL', key, counts[i])
    end
  end
  if total < count then return nil end
  table.sort(found, function(a, b) return a[1] < b[1] end)
  for _, each in ipairs(found) do
    total = total - each[2]
    if total < count then return (each[1] + BUCKETS + 1) * width end
  end
end

-- Count a code in its quotas, or refuse it and count nothing.
-- quotas: rule, whose, count, span_ms, is_watched, again and again
-- Returns nil, or the rule that refuses, its place in the list, and the milliseconds until it does not.
local function spend(quotas)
  local keys = {}
  for i = 1, #quotas, 5 do
    local rule, count, span = quotas[i], tonumber(quotas[i + 2]), tonumber(quotas[i + 3])
    local key, width = K.quota(rule .. ':' .. quotas[i + 3] .. ':' .. quotas[i + 1]), span / BUCKETS
    local at = fits_at(key, count, width)
    if at and quotas[i + 4] == '0' then
      redis.call('HINCRBY', K.quotas, rule .. ':refused', 1)
      return rule, (i - 1) / 5, at - NOW
    end
    if at then redis.call('HINCRBY', K.quotas, rule .. ':watched', 1) end
    keys[#keys + 1] = {key, width, span}
  end
  for _, each in ipairs(keys) do
    local key, width, span = unpack(each)
    redis.call('HINCRBY', key, int(math.floor(NOW / width)), 1)
    redis.call('PEXPIRE', key, int(span + 2 * width))
  end
end
