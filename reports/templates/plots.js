(() => {
  const section = document.getElementById("plots");
  if (!section) return;
  const panels = [...section.querySelectorAll(".panel")];
  const form = document.getElementById("plot-choice");
  const tip = document.getElementById("tip");
  const NEAR = 26;

  // --- drawings: text within noscript until they are shown or printed ---
  const unfold = (panel) => {
    const held = panel.querySelector("noscript");
    if (!held) return;
    held.outerHTML = held.textContent;
    for (const svg of panel.querySelectorAll("figure svg")) svg.tabIndex = 0;
  };
  const unfoldAll = () => panels.forEach(unfold);
  addEventListener("beforeprint", unfoldAll);
  matchMedia("print").addEventListener("change", unfoldAll);

  // --- one op and dtype at a time ---
  const ops = [...new Set(panels.map((panel) => panel.dataset.op))];
  const fill = (select, names, chosen) => {
    select.replaceChildren(...names.map((name) => new Option(name, name)));
    select.value = names.includes(chosen) ? chosen : names[0];
  };
  const dtypes = (op) => [...new Set(panels.filter((p) => p.dataset.op === op).map((p) => p.dataset.dtype))];
  const show = () => {
    hideTip();
    for (const panel of panels) {
      const on = panel.dataset.op === form.op.value && panel.dataset.dtype === form.dtype.value;
      if (on) unfold(panel);
      panel.classList.toggle("on", on);
      panel.classList.toggle("off", !on);
    }
  };
  form.hidden = false;
  form.op.addEventListener("change", () => { fill(form.dtype, dtypes(form.op.value), form.dtype.value); show(); });
  form.dtype.addEventListener("change", show);

  // --- backends: shown or hidden, one brought out ---
  const hidden = new Set();
  const rules = document.head.appendChild(document.createElement("style"));
  let outstanding = null;
  const restyle = () => {
    const off = [...hidden].map((index) => `#plots svg [data-subject="${index}"]`).join();
    rules.textContent = (off ? `@media screen { ${off} { display: none } }` : "") +
      (outstanding === null ? "" : `#plots svg [data-subject]:not([data-subject="${outstanding}"]) { opacity: .18 }`);
  };
  const bringOut = (index) => { if (outstanding !== index) { outstanding = index; restyle(); } };
  const names = new Map();
  const toggles = [...section.querySelectorAll(".keys > span")].map((key) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...key.childNodes);
    button.setAttribute("aria-pressed", "true");
    const index = key.dataset.subject;
    names.set(index, button.textContent.trim());
    const turn = (on) => {
      hidden[on ? "delete" : "add"](index);
      button.setAttribute("aria-pressed", String(on));
    };
    button.addEventListener("click", () => { turn(hidden.has(index)); hideTip(); restyle(); });
    for (const event of ["pointerenter", "focus"]) button.addEventListener(event, () => { if (!hidden.has(index)) bringOut(index); });
    for (const event of ["pointerleave", "blur"]) button.addEventListener(event, () => bringOut(null));
    key.replaceChildren(button);
    return turn;
  });
  for (const [name, on] of [["every", true], ["none", false]]) {
    const button = form.querySelector(`button.${name}`);
    button.hidden = false;
    button.addEventListener("click", () => { hideTip(); for (const turn of toggles) turn(on); restyle(); });
  }

  // --- marks: what they stand for, and what that rests on ---
  const read = new WeakMap();
  const groups = (svg) => {
    if (!read.has(svg)) {
      read.set(svg, [...svg.querySelectorAll("[data-points]")].map((group) => {
        const uses = [...group.querySelectorAll("use")];
        const marks = uses.length ? uses : [...group.querySelectorAll("path")];
        const map = group.id.endsWith("-cells");
        return { group, points: JSON.parse(group.dataset.points), map, subject: group.dataset.subject, marks };
      }));
    }
    return read.get(svg).filter((one) => !hidden.has(one.subject));
  };
  const write = (value) => (value === null ? "∞" : value.toLocaleString("en", { maximumSignificantDigits: 4 }));
  const words = (svg) => svg.closest("figure").dataset.words.split("|");
  const remainder = (cell, text) => {
    const [axes, columns, rows] = text.split("/");
    const [first, second] = axes.split(",");
    const [column, row] = [cell % columns, Math.floor(cell / columns)];
    return second ? `${first} mod ${rows} = ${row}, ${second} mod ${columns} = ${column}` : `${first} mod ${columns * rows} = ${cell}`;
  };
  const told = (svg, one, k) => {
    const [x, y, z] = one.points[k];
    const [before, unit, after] = words(svg);
    if (one.map) return `${remainder(x, before)}: ${write(y)} ${unit}`;
    const place = before === "within" ? `within ${write(x)} ulp: ` : before ? `${before} ${write(x)}: ` : "";
    return place + (before === "within" ? `${write(y)} %` : `${write(y)} ${unit}`) + (after && z !== null ? `, ${write(z)} ${after}` : "");
  };
  let current = null;
  const hideTip = () => {
    tip.hidden = true;
    if (current) current.mark.classList.remove("current");
    current = null;
    bringOut(null);
  };
  const rests = (svg, subject) =>
    svg.closest(".panel").dataset.rests.split(" ").map((pair) => pair.split(":")).find(([index]) => index === subject)?.[1];
  const tell = (svg, one, k, box) => {
    const mark = one.marks[Math.min(k, one.marks.length - 1)];
    if (current && current.mark === mark && current.k === k) return;
    if (current) current.mark.classList.remove("current");
    current = { svg, one, k, mark };
    if (!one.map) mark.classList.add("current");
    bringOut(one.subject);
    const name = document.createElement("strong");
    name.textContent = names.get(one.subject);
    const parts = [name, document.createElement("br"), told(svg, one, k)];
    const anchor = rests(svg, one.subject);
    if (anchor) {
      const link = document.createElement("a");
      link.href = `#${anchor}`;
      link.textContent = "what it rests on";
      parts.push(document.createElement("br"), link);
    }
    tip.firstElementChild.replaceChildren(...parts);
    tip.hidden = false;
    const frame = section.getBoundingClientRect();
    const left = Math.min(Math.max(0, box.x - frame.x + 12), frame.width - tip.offsetWidth);
    tip.style.left = `${left}px`;
    tip.style.top = `${box.y - frame.y + 14}px`;
  };
  const middle = (mark) => { const box = mark.getBoundingClientRect(); return { x: box.x + box.width / 2, y: box.y + box.height / 2 }; };
  const apart = (mark, { x, y }) => {
    const box = mark.getBoundingClientRect();
    const inside = mark.tagName === "path" && x >= box.left && x <= box.right && y >= box.top && y <= box.bottom;
    const at = middle(mark);
    return inside ? 0 : Math.hypot(at.x - x, at.y - y);
  };
  const cellAt = (svg, one, { x, y }) => {
    const [, columns, rows] = words(svg)[0].split("/");
    const box = one.group.getBoundingClientRect();
    const [column, row] = [Math.floor(((x - box.left) / box.width) * columns), Math.floor(((y - box.top) / box.height) * rows)];
    const cell = column >= 0 && row >= 0 && column < columns && row < rows ? column + columns * row : -1;
    return one.points.findIndex(([place]) => place === cell);
  };
  const nearest = (svg, pointer) => {
    let best = { distance: NEAR };
    for (const one of groups(svg)) {
      if (one.map) {
        const k = cellAt(svg, one, pointer);
        if (k >= 0) return { one, k };
        continue;
      }
      one.marks.forEach((mark, k) => {
        const distance = apart(mark, pointer);
        if (distance < best.distance) best = { one, k, distance };
      });
    }
    return best.one && best;
  };
  section.addEventListener("pointermove", (event) => {
    const svg = event.target.closest("figure svg");
    if (!svg) {
      if (!event.target.closest("#tip, .keys")) hideTip();
      return;
    }
    const pointer = { x: event.clientX, y: event.clientY };
    const found = nearest(svg, pointer);
    // The way from a mark to its tip leads over what is no mark: only another mark takes the tip away.
    if (found) tell(svg, found.one, found.k, found.one.map ? pointer : middle(found.one.marks[found.k]));
  });
  section.addEventListener("pointerleave", hideTip);
  addEventListener("hashchange", hideTip);

  // --- the same by keys ---
  const step = (svg, key) => {
    const all = groups(svg).filter((one) => one.points.length);
    if (!all.length) return;
    let place = current && current.svg === svg ? all.findIndex((one) => one.group === current.one.group) : -1;
    let k = place < 0 ? 0 : current.k;
    if (place < 0) place = 0;
    else if (key === "ArrowRight") k = Math.min(k + 1, all[place].points.length - 1);
    else if (key === "ArrowLeft") k = Math.max(k - 1, 0);
    else {
      const x = all[place].points[k][0];
      place = (place + (key === "ArrowDown" ? 1 : all.length - 1)) % all.length;
      k = Math.max(0, all[place].points.findIndex((point) => point[0] >= x));
    }
    const one = all[place];
    tell(svg, one, k, middle(one.marks[Math.min(k, one.marks.length - 1)]));
  };
  tip.setAttribute("role", "status");
  section.addEventListener("keydown", (event) => {
    const svg = event.target.closest("figure svg");
    if (event.key === "Escape") hideTip();
    else if (svg && event.key.startsWith("Arrow")) { event.preventDefault(); step(svg, event.key); }
    else if (svg && event.key === "Enter" && current && current.svg === svg) tip.querySelector("a")?.click();
  });
  section.addEventListener("focusout", (event) => {
    if (event.target.closest("figure svg") && !tip.contains(event.relatedTarget)) hideTip();
  });

  fill(form.op, ops, ops[0]);
  fill(form.dtype, dtypes(ops[0]), null);
  show();
})();
