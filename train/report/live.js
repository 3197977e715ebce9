// The live page: keeps the list of runs, and swaps in the report of those that are selected when one of them has moved on.
(() => {
  const get = id => document.getElementById(id);
  const list = get("list"), search = get("search"), state = get("state"), status = get("status"), report = get("report");
  let items = [], selected = location.hash ? decodeURIComponent(location.hash.slice(1)).split(",") : [], shown = "", asked = 0;

  const short = n => n >= 1e9 ? (n / 1e9).toPrecision(3) + "B" : n >= 1e6 ? (n / 1e6).toPrecision(3) + "M" : n >= 1e4 ? (n / 1e3).toPrecision(3) + "k" : String(n);
  const cell = (row, text) => row.insertCell().append(text);

  const draw = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const hits = items.filter(i => (!state.value || i.state === state.value) && words.every(w => `${i.name} ${i.phase} ${i.state}`.toLowerCase().includes(w)));
    const focused = document.activeElement?.dataset?.run;
    list.replaceChildren();
    for (const i of hits) {
      const row = list.insertRow(), label = document.createElement("label"), box = document.createElement("input"), dot = document.createElement("span");
      box.type = "checkbox"; box.dataset.run = i.name; box.checked = selected.includes(i.name);
      dot.className = "dot" + (i.state === "running" ? " live" : ""); dot.title = i.state;
      label.append(box, " ", dot, " ", i.name);
      cell(row, label); cell(row, short(i.step)); cell(row, short(i.tokens)); cell(row, i.phase);
      cell(row, i.loss?.toFixed(4) ?? "–"); cell(row, i.val_bpb?.toFixed(4) ?? "–");
      if (i.name === focused) box.focus();
    }
    status.textContent = `${hits.length} of ${items.length} runs, ${items.filter(i => i.state === "running").length} running`;
  };

  // load swaps in the report of the selected runs, if they have moved on since, and keeps what the reader has opened.
  const load = async () => {
    const moved = JSON.stringify(items.filter(i => selected.includes(i.name)));
    if (moved === shown && report.childElementCount) return;
    shown = moved;
    const mine = ++asked;
    if (!selected.length) return report.replaceChildren();
    const slow = setTimeout(() => { status.textContent = "reading: a long run takes a while the first time" }, 500);
    const answer = await fetch("/report?" + selected.map(n => "run=" + encodeURIComponent(n)).join("&"));
    const text = await answer.text();
    clearTimeout(slow);
    draw();
    if (mine !== asked) return;
    if (!answer.ok) { report.textContent = text; return }
    const open = new Map([...report.querySelectorAll("details")].map(d => [d.firstElementChild.textContent, d.open]));
    const y = scrollY;
    report.innerHTML = text;
    for (const d of report.querySelectorAll("details")) d.open = open.get(d.firstElementChild.textContent) ?? d.open;
    scrollTo(0, y);
  };

  const choose = names => {
    selected = names;
    history.replaceState(null, "", names.length ? "#" + encodeURIComponent(names.join(",")) : location.pathname);
    draw(); load();
  };
  list.addEventListener("change", event => {
    const name = event.target.dataset.run;
    choose(event.target.checked ? [...selected, name] : selected.filter(n => n !== name));
  });
  get("clear").addEventListener("click", () => choose([]));
  search.addEventListener("input", draw);
  state.addEventListener("change", draw);
  get("filter").addEventListener("submit", event => event.preventDefault());

  const events = new EventSource("/events");
  events.onmessage = event => {
    const news = JSON.parse(event.data);
    if (news.problem) { status.textContent = news.problem; return }
    items = news;
    if (!selected.length && items.length && !report.childElementCount && !location.hash) {
      selected = [items.reduce((a, b) => a.written > b.written ? a : b).name]; // the one written to last
    }
    draw(); load();
  };
  events.onerror = () => { status.textContent = "the dashboard has stopped: trying again" };
})();
