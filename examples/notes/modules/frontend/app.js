const element = (id) => document.getElementById(id);
const list = element("notes");

function render(note) {
  const id = `note-${note.id}`;
  let item = element(id);
  if (!item) {
    item = element("note").content.cloneNode(true).firstElementChild;
    item.id = id;
    item.dataset.id = note.id;
    const older = [...list.children].find((other) => Number(other.dataset.id) < note.id);
    list.insertBefore(item, older ?? null);
  }
  // textContent everywhere: a note is text, whatever it looks like.
  item.querySelector(".body").textContent = note.body;
  item.querySelector(".author").textContent = note.author;
  const time = item.querySelector("time");
  time.dateTime = note.created_at;
  time.textContent = new Date(note.created_at).toLocaleTimeString();
  item.querySelector(".result").textContent = note.processed_at
    ? `· ${note.word_count} ${note.word_count === 1 ? "word" : "words"}, counted by the worker`
    : "· waiting for the worker";
  element("empty").hidden = true;
}

async function load() {
  const [notes, status] = await Promise.all(["/api/notes", "/api/status"].map(async (path) => {
    const answer = await fetch(path);
    if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
    return answer.json();
  }));
  notes.forEach(render);
  element("empty").hidden = list.children.length > 0;
  element("version").textContent = `version ${status.version} · ${status.slot}`;
  const identity = status.identity.available ? "managed identity works" : "no managed identity";
  element("platform").textContent =
    `${status.notes} notes · instance ${status.instance} · ${status.environment} · ${identity}`;
  const author = document.forms.form.author;
  if (status.author && status.author !== "anonymous" && !author.value) author.value = status.author;
}

function live(on) {
  element("live").classList.toggle("on", on);
  element("live").title = on ? "Live" : "Reconnecting";
}

let wait = 500;
function connect() {
  const socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/ws`);
  socket.onopen = () => {
    wait = 500;
    live(true);
    load().catch(() => socket.close()); // what happened while we were away, and which release answers now
  };
  socket.onmessage = ({ data }) => {
    const event = JSON.parse(data);
    if (event.type === "ping") socket.send('{"type":"pong"}');
    if (event.note) render(event.note);
  };
  socket.onclose = () => {
    live(false);
    setTimeout(connect, wait * (0.5 + Math.random())); // not all at once after a release
    wait = Math.min(wait * 2, 15_000);
  };
}

document.forms.form.addEventListener("submit", async (submit) => {
  submit.preventDefault();
  const form = submit.target;
  const problem = element("problem");
  const button = form.querySelector("button");
  button.disabled = true;
  problem.hidden = true;
  try {
    const answer = await fetch("/api/notes", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ author: form.author.value.trim() || "anonymous", body: form.body.value }),
    });
    const result = await answer.json();
    if (!answer.ok) throw new Error(typeof result.detail === "string" ? result.detail : result.detail[0].msg);
    render(result);
    form.body.value = "";
  } catch (error) {
    problem.textContent = `Not written: ${error.message}`;
    problem.hidden = false;
  } finally {
    button.disabled = false;
    form.body.focus();
  }
});

connect();
