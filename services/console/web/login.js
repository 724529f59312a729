// The token travels in a header, so that it stands in no address; the server answers with a cookie.
const form = document.getElementById('form');
const message = document.getElementById('message');
const token = document.getElementById('token');

form.addEventListener('submit', async (event) => {
  event.preventDefault();
  message.textContent = 'One moment';
  try {
    const answer = await fetch('/login', { headers: { authorization: `Bearer ${token.value.trim()}` }, cache: 'no-store' });
    if (answer.ok) {
      location.replace('/');
      return;
    }
    message.textContent = answer.status === 401 ? 'This is not the token.' : `The console answered ${answer.status}.`;
  } catch {
    message.textContent = 'The console does not answer, or the token holds characters that no token has.';
  }
  token.select();
});
