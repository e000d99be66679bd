// A run at work: its pipeline is put in place again whenever the server says that it has changed.
const place = document.getElementById("pipeline");
const live = document.getElementById("live");
if (place?.dataset.status === "running") {
  const source = new EventSource(`/runs/${place.dataset.run}/events`);
  live.textContent = "Live: this page follows the run.";
  source.addEventListener("pipeline", (event) => {
    const told = JSON.parse(event.data);
    place.innerHTML = told.html; // made by our own server, where every text is escaped
    live.textContent = "Live: this page follows the run.";
    if (told.status !== "running") {
      source.close();
      location.reload(); // the decision, and what else there is by now
    }
  });
  source.addEventListener("error", () => {
    live.textContent = "The server does not answer; trying again.";
  });
}
