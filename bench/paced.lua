-- wrk script: as review.lua, whose path is in REVIEW_LUA, but each connection pauses 10 to 30 ms before every request.
-- Four connections make 200 requests a second, as evenly as requests of independent clients arrive.
dofile(os.getenv("REVIEW_LUA"))
function delay()
  return math.random(10, 30)
end
