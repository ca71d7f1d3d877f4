-- Tell when a request reached the API at the latest, where no outcome is recorded with it just yet.
-- arrived: see note_arrival
-- Twice: nothing changes but how much is thought to be known of the way.
local A = arguments('arrived')
note_arrival(A.arrived)
