// What the pages do beyond HTML. Each part stands alone; without any of it every page still works, but for what is live.

const $ = (selector, root = document) => root.querySelector(selector);
const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];
const csrf = () => $("meta[name=csrf]").content;

const later = (wait, run) => {
    let timer;
    return (...rest) => {
        clearTimeout(timer);
        timer = setTimeout(run, wait, ...rest);
    };
};

// Times: "2 min ago" and "23 h 59 min 12 s" run on, in the words that the server rendered (console/src/pages/time.rs).

const ago = (seconds) => {
    if (seconds < 5) return "just now";
    if (seconds < 60) return `${Math.floor(seconds)} s ago`;
    if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
    if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ago`;
    const days = Math.floor(seconds / 86400);
    return days === 1 ? "1 day ago" : `${days} days ago`;
};

const left = (seconds) => {
    const units = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];
    const parts = [];
    for (const [name, size] of units) {
        const count = Math.floor(seconds / size);
        seconds -= count * size;
        if (count > 0 || parts.length > 0 || name === "s") parts.push(`${count} ${name}`);
    }
    return parts.join(" ");
};

// By the server's clock: the page says what time it was made.
const skew = Date.parse($("meta[name=now]").content) - Date.now();

const tick = () => {
    const now = Date.now() + skew;
    for (const time of $$("time[data-ago]")) {
        const text = ago((now - Date.parse(time.dateTime)) / 1000);
        if (time.textContent !== text) time.textContent = text;
    }
    for (const time of $$("time[data-left]")) {
        const seconds = Math.floor((Date.parse(time.dateTime) - now) / 1000);
        time.textContent = left(Math.max(0, seconds));
        // What expires changes the page: the server says how.
        if (seconds < 0 && !time.dataset.over) {
            time.dataset.over = "yes";
            setTimeout(refresh, 1000);
        }
    }
};
setInterval(tick, 1000);

// Live: the server says that something changed, the page is asked for again, and its parts take the place of these.

let source; // tells that something changed; only where something is live

// What a part says, without what the script itself goes on writing there.
const said = (part) => {
    const copy = part.cloneNode(true);
    for (const time of $$("time", copy)) time.textContent = "";
    return copy.innerHTML;
};

const replace = (next) => {
    const main = $("main"), fresh = $("main", next);
    if (!fresh) return;
    const shape = (of) => of.dataset.shape ?? "";
    const parts = shape(main) === shape(fresh) ? $$("[data-part]") : [main];
    const focused = document.activeElement;
    for (const part of parts) {
        const other = part === main ? fresh : next.getElementById(part.id);
        if (!other || said(part) === said(other)) continue;
        const had = part.contains(focused) && focused.id;
        // Nothing is taken from under a person's hands.
        if (part.contains(focused) && /^(INPUT|TEXTAREA|SELECT)$/.test(focused.tagName)) continue;
        part.replaceChildren(...other.childNodes);
        if (had) document.getElementById(had)?.focus({ preventScroll: true });
    }
    main.dataset.shape = shape(fresh);
    document.title = next.title;
    sign(...(source?.readyState === EventSource.OPEN ? ["on", "Live"] : signed));
    tick();
};

let loads = 0;

const load = async (address) => {
    const turn = ++loads;
    const answer = await fetch(address, { headers: { Accept: "text/html", "X-Refresh": "1" } });
    // Logged out, not allowed any more, or what is shown was deleted: the page for that.
    if (answer.redirected || answer.status === 403 || answer.status === 404) return location.reload();
    if (!answer.ok) return sign("off", "Not up to date");
    const next = new DOMParser().parseFromString(await answer.text(), "text/html");
    // A slow answer must not take the place of one that was asked for later.
    if (turn === loads) replace(next);
};

const refresh = () => load(location.href).catch(() => {});

let signed = ["", "Connecting…"];

const sign = (state, text) => {
    signed = [state, text];
    for (const live of $$(".live")) {
        live.className = `live needs-script ${state}`;
        live.textContent = text;
    }
};

const stream = $("main")?.dataset.live;
if (stream) {
    const open = () => {
        source = new EventSource(stream);
        source.addEventListener("open", () => {
            sign("on", "Live");
            // What changed between the page and the stream, told nobody.
            refresh();
        });
        source.addEventListener("change", refresh);
        source.addEventListener("error", () => {
            sign("off", "Reconnecting…");
            // The browser tries again by itself, unless it was refused.
            if (source.readyState === EventSource.CLOSED) setTimeout(() => refresh().then(open), 5000);
        });
    };
    open();
    // A page in the back-forward cache must not hold a connection.
    addEventListener("pagehide", () => source.close());
    addEventListener("pageshow", (event) => event.persisted && (refresh(), open()));
}

// Copy buttons: what they name by id goes to the clipboard.

addEventListener("click", async (event) => {
    const button = event.target.closest("button[data-copy]");
    if (!button) return;
    const text = document.getElementById(button.dataset.copy).textContent.trim().replace(/[^\S\n]+/g, " ");
    const label = $("span", button);
    try {
        await navigator.clipboard.writeText(text);
        label.textContent = "Copied";
    } catch {
        getSelection().selectAllChildren(document.getElementById(button.dataset.copy));
        label.textContent = "Selected";
    }
    $("#said").textContent = label.textContent;
    // As the server made it, or the next refresh would take it for another.
    setTimeout(() => { label.textContent = "Copy"; $("#said").textContent = ""; }, 2000);
});

// Confirmations: the page that a link leads to, in a dialog.

addEventListener("click", async (event) => {
    const link = event.target.closest("a[data-dialog]");
    if (!link || event.metaKey || event.ctrlKey || event.shiftKey || event.button) return;
    event.preventDefault();
    try {
        const answer = await fetch(link.href);
        const page = new DOMParser().parseFromString(await answer.text(), "text/html");
        const form = $("#confirm", page);
        if (!form) throw new Error("this is another page, as the one to log in");
        const dialog = document.createElement("dialog");
        dialog.setAttribute("aria-labelledby", "confirm-title");
        dialog.append(form);
        document.body.append(dialog);
        dialog.addEventListener("close", () => dialog.remove());
        $("a.cancel", dialog)?.addEventListener("click", (cancel) => { cancel.preventDefault(); dialog.close(); });
        dialog.showModal();
    } catch {
        location.href = link.href;
    }
});

// A form is sent once.

addEventListener("submit", (event) => {
    if (event.target.method === "get") return;
    if (event.target.dataset.sent) return event.preventDefault();
    event.target.dataset.sent = "yes";
    event.submitter?.setAttribute("aria-busy", "true");
});
addEventListener("pageshow", () => {
    for (const form of $$("form[data-sent]")) delete form.dataset.sent;
    for (const button of $$("[aria-busy]")) button.removeAttribute("aria-busy");
});

// Filters apply while they are typed.

for (const form of $$("form[data-filter]")) {
    const apply = later(250, () => {
        const filled = [...new FormData(form)].filter(([, value]) => value);
        const address = `${location.pathname}?${new URLSearchParams(filled)}`;
        history.replaceState(null, "", address);
        load(address).catch(() => form.submit());
    });
    form.addEventListener("input", apply);
}

// What pools come to, while they are typed: all of them together, because none may overlap another and one must be large
// enough.

const field = (name) => $(`[name="${name}"]`);
const text = (name) => field(name).value.trim();
const chosen = (name) => $(`[name="${name}"]:checked`)?.value;
const list = (name) => text(name).replace(/\s*-\s*/g, "-").split(/[\s,;]+/).filter(Boolean);

const spec = (at, index) => {
    const range = chosen(`${at}/kind`) !== "subnet";
    const prefix = text(`${at}/prefix`).replace(/^\//, "");
    return {
        name: text(`${at}/name`) || `pool-${index + 1}`,
        start: range ? text(`${at}/start`) : "",
        end: range ? text(`${at}/end`) : "",
        subnet: range ? "" : text(`${at}/subnet`),
        prefix: /^\d{1,3}$/.test(prefix) ? Number(prefix) : null,
        gateway: text(`${at}/gateway`),
        name_servers: list(`${at}/name_servers`),
        search: list(`${at}/search`),
        exclude: list(`${at}/exclude`),
        restrict_to_single_cluster: field(`${at}/restrict_to_single_cluster`).checked,
    };
};

const ask = async (ip_pools) => {
    const endpoint = text("/control_plane_endpoint/type");
    const answer = await fetch("/v1/pools/check", {
        method: "POST",
        headers: { "Content-Type": "application/json", "X-CSRF-Token": csrf() },
        // With whatever else has addresses, or takes some.
        body: JSON.stringify({
            ip_pools,
            ip_allocation: chosen("/ip_allocation") ?? "dhcp",
            size: Number(chosen("/size") ?? 1),
            control_plane_endpoint: endpoint ? { type: endpoint, host: text("/control_plane_endpoint/host") } : null,
            pod_cidr: text("/pod_cidr"),
            service_cidr: text("/service_cidr"),
            ntp_servers: list("/ntp_servers"),
            vcenter: { server: text("/vcenter/server") },
        }),
    });
    if (!answer.ok) throw new Error(answer.statusText);
    return answer.json();
};

// Says it, or what is said where there is nothing to say.
const tell = (place, sum, finding) => {
    const words = [sum, finding && `${finding.message} ${finding.hint}`].filter(Boolean).join(" ") || place.dataset.sum;
    if (place.textContent !== words) place.textContent = words;
    place.classList.toggle("muted", !sum || Boolean(finding));
};

let asked = 0;

const check = async (pools) => {
    const turn = ++asked;
    // Not of a pool that nobody has begun to describe.
    const begun = pools.map((pool, index) => ({ pool, spec: spec(pool.dataset.pool, index) }))
        .filter(({ spec: { start, end, subnet } }) => start || end || subnet);
    const nothing = { pools: [], findings: [] };
    const report = begun.length ? await ask(begun.map(({ spec }) => spec)).catch(() => nothing) : nothing;
    if (turn !== asked) return;
    for (const pool of pools) {
        const place = begun.findIndex((one) => one.pool === pool);
        const finding = report.findings.find(({ at }) => `${at}/`.startsWith(`/ip_pools/${place}/`));
        tell($("[data-sum]", pool), report.pools[place]?.summary, finding);
    }
    tell($("#pools-sum"), "", report.findings.find(({ at }) => at === "/ip_pools"));
};

const pools = $$("[data-pool]");
if (pools.length) {
    $("#configuration").addEventListener("input", later(200, () => check(pools)));
    check(pools);
}
