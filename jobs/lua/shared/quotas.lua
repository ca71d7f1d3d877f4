-- Bounds on spending (jobs/quotas.py). A quota's record is a hash: number of a bucket, a sixtieth of the
-- span, -> codes counted in it. They count until the whole bucket is a span old.
local BUCKETS = 60

-- The quotas of a batch's row, for `spend`.
-- bounds: "rule,count,span_ms,is_watched;…" of the rules country and budget
local function bounds_of(bounds, cc)
  local quotas = {}
  for rule, count, span, watched in string.gmatch(bounds, '(%l+),(%d+),(%d+),(%d);') do
    for _, part in ipairs({rule, rule == 'country' and cc or 'all', count, span, watched}) do
      quotas[#quotas + 1] = part
    end
  end
  return quotas
end

-- When one more code fits into a quota, ms; nil if one fits now.
local function fits_at(key, count, width, now)
  local first, total, found = math.floor(now / width) - BUCKETS, 0, {}
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
local function spend(quotas, now)
  local keys = {}
  for i = 1, #quotas, 5 do
    local rule, count, span = quotas[i], tonumber(quotas[i + 2]), tonumber(quotas[i + 3])
    local key, width = K.quota(rule .. ':' .. quotas[i + 3] .. ':' .. quotas[i + 1]), span / BUCKETS
    local at = fits_at(key, count, width, now)
    if at and quotas[i + 4] == '0' then
      redis.call('HINCRBY', K.quotas, rule .. ':refused', 1)
      return rule, (i - 1) / 5, at - now
    end
    if at then redis.call('HINCRBY', K.quotas, rule .. ':watched', 1) end
    keys[#keys + 1] = {key, width, span}
  end
  for _, each in ipairs(keys) do
    local key, width, span = unpack(each)
    redis.call('HINCRBY', key, int(math.floor(now / width)), 1)
    redis.call('PEXPIRE', key, int(span + 2 * width))
  end
end
