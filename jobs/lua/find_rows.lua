-- Find rows of a batch by a number or by text in their cells. It changes nothing.
-- first: index of the first row (from 0); count: rows to look at; most: rows to name
-- digits: those of a number, with or without its country code, or ""; text: in lower case, or ""
-- Reply: rows looked at, then the numbers (from 1) of those that fit
local A = arguments('batch', 'first:number', 'count:number', 'most:number', 'digits', 'text')
local texts = redis.pcall('LRANGE', K.rows(A.batch), A.first, A.first + A.count - 1)
if texts.err then return {0} end
local reply, looked = {0}, 0
for i, row in ipairs(texts) do
  local cc, num, cells = string.match(row, '^%-?([^\t]*)\t([^\t]*)\t[^\t]*\t()')
  local fits
  if A.text ~= '' and string.find(string.lower(row), A.text, cells, true) then
    fits = true
  elseif A.digits == '' then
    fits = false
  elseif (cc or '') ~= '' then
    fits = num == A.digits or cc .. num == A.digits
  else
    fits = string.find(row, A.digits, cells, true) -- it was rejected, so its number was not read
  end
  looked = i
  if fits then
    reply[#reply + 1] = A.first + i
    if #reply > A.most then break end
  end
end
reply[1] = looked
return reply
