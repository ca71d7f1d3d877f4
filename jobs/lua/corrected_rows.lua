-- Count the rejected rows of a batch whose customers corrected files took over. It changes nothing.
-- Reply: how many; where very many were noted, all of those
local A = arguments('batch')
local key, found = K.corrected(A.batch), 0
local noted = redis.call('HLEN', key)
if noted > 2000 then return noted end
for _, ids in ipairs(redis.call('HVALS', key)) do
  if corrected_by(ids) ~= '' then found = found + 1 end
end
return found
