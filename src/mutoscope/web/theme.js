// Runs before the first paint, so that a chosen theme never flashes: without a choice, the system's is used.
try {
  const theme = JSON.parse(localStorage.getItem("mutoscope.theme"));
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
} catch {
  // nothing remembered
}
