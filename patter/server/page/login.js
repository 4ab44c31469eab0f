/** The form to sign in: the token becomes a cookie that scripts cannot read, and is kept nowhere else. */

const form = document.getElementById("sign-in");
const token = document.getElementById("token");
const problem = document.getElementById("problem");

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  problem.textContent = "";
  try {
    const answer = await fetch("/dashboard/login", {
      method: "POST",
      credentials: "same-origin",
      headers: { "Content-Type": "application/json", "X-Patter": "page" },
      body: JSON.stringify({ token: token.value.trim() }),
    });
    if (answer.ok) {
      location.reload(); // the same address, its place in the page included, now shows the page
      return;
    }
    const told = await answer.json().catch(() => null);
    problem.textContent = (told && told.error) || `The engine answered ${answer.status}.`;
  } catch {
    problem.textContent = "The engine cannot be reached.";
  }
  token.select();
});
