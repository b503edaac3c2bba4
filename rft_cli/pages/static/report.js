// Draws a report: its curves at once; explorer.js has shown its completions.
rft.charts.draw(rft.charts.read(document));
