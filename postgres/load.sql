-- Loads the CSV that init-script.sh puts on standard input. Its header must name the table's columns, in order.
\if :{?init}
\else
  \quit
\endif

-- FREEZE: rows of a transaction that creates the table need no later visit by vacuum.
\copy air_quality_measurements FROM pstdin WITH (FORMAT csv, HEADER match, FREEZE)
ANALYZE air_quality_measurements;
